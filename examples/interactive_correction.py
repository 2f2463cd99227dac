"""Click, track, look, correct, track on: the loop of an annotation tool, in one file.

    maskmesh up                                      # in another terminal
    python examples/interactive_correction.py clip.mp4 110,262 330,180

The first point is on the object in frame 0.  The second one stands for what a person would click who looks
at the worst frame.  Everything that a tool needs is here: a preview per click, undo, a correction that
holds, tracking on from it and back from it.
"""

import sys

from maskmesh import Client, FrameMasks, MaskOptions, MaskSpace, SyncVideoSession

OBJECT = 1


def track(session: SyncVideoSession, **where: int | bool) -> dict[int, FrameMasks]:
    """Masks by frame.  Small ones do for a timeline: nothing is upsampled for them."""
    small = MaskOptions(space=MaskSpace.MODEL)
    return {frame.frame_index: frame for frame in session.propagate(mask_options=small, **where)}  # type: ignore[arg-type]


def worst(frames: dict[int, FrameMasks]) -> int:
    """The frame on which the model itself trusts its mask least, of those where nobody has clicked."""
    ious = {i: f.objects[OBJECT].predicted_iou for i, f in frames.items() if not f.conditioning}
    return min(ious, key=lambda index: ious[index])


def main(video: str, first: tuple[float, float], second: tuple[float, float], endpoint: str) -> None:
    """Annotate one object of a video."""
    with Client(endpoint) as client, client.session() as session:
        session.append_video(video)

        # A click is answered at once, with its mask; another one on the same frame refines it.
        preview = session.add_prompt(0, OBJECT, points=[first])
        print(f"first click: predicted IoU {preview.objects[OBJECT].predicted_iou:.2f}")
        frames = track(session)

        # Somebody looks at the worst frame and clicks there; the session knows what was said.
        index = worst(frames)
        revision = session.get_state().revision
        corrected = session.add_prompt(index, OBJECT, points=[second], expected_revision=revision)
        print(
            f"frame {index}: {frames[index].objects[OBJECT].predicted_iou:.2f}, "
            f"corrected {corrected.objects[OBJECT].predicted_iou:.2f}"
        )

        # On second thoughts: taken back, as if it had never been said.  And said again.
        session.clear_prompts(index, OBJECT)
        session.add_prompt(index, OBJECT, points=[second])

        # What comes after the correction follows it, and so does what was before.
        frames |= track(session, start_frame_index=index)
        frames |= track(session, start_frame_index=index, reverse=True)
        print(f"{len(frames)} frames, {len(session.get_state().history)} entries of history")

        # The history makes the same masks again, in another session and on another mesh.
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
