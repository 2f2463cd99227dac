"""The loop of an annotation tool: click, track, review, correct, and track again.

    maskmesh up                                      # in another terminal
    python examples/interactive_correction.py clip.mp4 110,262 330,180

The first point is on the object in frame 0.  The second point simulates the correction that an annotator
clicks on the worst frame.  The example shows a preview for each click, undo, a correction, and tracking
forward and in reverse from the corrected frame.
"""

import sys

from maskmesh import Client, FrameMasks, MaskOptions, MaskSpace, SyncVideoSession

OBJECT = 1


def track(session: SyncVideoSession, **where: int | bool) -> dict[int, FrameMasks]:
    """Masks by frame index, at the model's resolution: a timeline needs no upsampled masks."""
    small = MaskOptions(space=MaskSpace.MODEL)
    return {frame.frame_index: frame for frame in session.propagate(mask_options=small, **where)}  # type: ignore[arg-type]


def worst(frames: dict[int, FrameMasks]) -> int:
    """The index of the unprompted frame with the lowest predicted IoU."""
    ious = {i: f.objects[OBJECT].predicted_iou for i, f in frames.items() if not f.conditioning}
    return min(ious, key=lambda index: ious[index])


def main(video: str, first: tuple[float, float], second: tuple[float, float], endpoint: str) -> None:
    """Annotate one object of a video."""
    with Client(endpoint) as client, client.session() as session:
        session.append_video(video)

        # The response to a click contains its mask; another click on the same frame refines the mask.
        preview = session.add_prompt(0, OBJECT, points=[first])
        print(f"first click: predicted IoU {preview.objects[OBJECT].predicted_iou:.2f}")
        frames = track(session)

        # The annotator clicks on the worst frame; expected_revision detects changes by other clients.
        index = worst(frames)
        revision = session.get_state().revision
        corrected = session.add_prompt(index, OBJECT, points=[second], expected_revision=revision)
        print(
            f"frame {index}: {frames[index].objects[OBJECT].predicted_iou:.2f}, "
            f"corrected {corrected.objects[OBJECT].predicted_iou:.2f}"
        )

        # Undo the correction, then add it again.
        session.clear_prompts(index, OBJECT)
        session.add_prompt(index, OBJECT, points=[second])

        # Track again from the corrected frame, forward and in reverse.
        frames |= track(session, start_frame_index=index)
        frames |= track(session, start_frame_index=index, reverse=True)
        print(f"{len(frames)} frames, {len(session.get_state().history)} entries of history")

        # Replaying the history gives the same masks in another session, also on another mesh.
        with client.session() as copy:
            copy.append_video(video)
            copy.replay(session.get_state().history)
            print(f"replayed: {[o.prompted_frames for o in copy.get_state().objects]}")


def _point(text: str) -> tuple[float, float]:
    x, y = text.split(",")
    return float(x), float(y)


if __name__ == "__main__":
    _, clip, one, two, *rest = sys.argv
    main(clip, _point(one), _point(two), rest[0] if rest else "127.0.0.1:50050")
