"""The numbers of the rules; the defaults are the published ones of SAM 3."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingRules:
    """Options of following concepts through a video.

    Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025), and the reference implementation.
    Scores are probabilities, IoUs are of masks, delays and counts are in frames.
    """

    detection_score: float = 0.5
    """Detections with lower scores are ignored."""
    duplicate_iou: float = 0.1
    """Of two detections that overlap more, the one with the lower score is ignored; 0 keeps both."""
    match_iou: float = 0.1
    """A detection matches every object that it overlaps this much, and is then not new."""
    confirm_iou: float = 0.5
    """An object that no detection overlaps this much is unmatched."""
    new_score: float = 0.7
    """The score from which on a detection that matches no object becomes one."""
    max_objects: int = 10_000

    hotstart_delay: int = 15
    """An object is removed for being unmatched or a duplicate only in its first frames; results wait as long.
    0 removes no object."""
    hotstart_unmatched: int = 8
    hotstart_duplicate: int = 8

    keep_alive_start: int = 30
    keep_alive_max: int = 30
    keep_alive_min: int = -1
    hides_unmatched: bool = False
    """Whether an object hides while it was unmatched more often than matched, in its whole life."""
    empty_counts_as_unmatched: bool = False

    occlusion_iou: float = 0.7
    """Of two objects that overlap this much, the one that was out of sight more recently hides."""
    shrink_ratio: float = 0.3
    """A mask that keeps less of its area when each pixel goes to one object is not memorized."""

    recondition_every: int = 16
    """Every this many frames, sure detections prompt their objects again; 0 is never."""
    recondition_score: float = 0.8
    recondition_iou: float = 0.8
    recondition_object_score: float = 0.8
    """The object score, a logit, above which an object may be prompted again."""

    speck_area: int = 16
    """Holes and specks of at most this many pixels of the low-resolution mask are closed and removed."""
