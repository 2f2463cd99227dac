"""The sample clips: the committed files match the script that draws one, and the scenes are as intended."""

import numpy as np

from maskmesh.cli.segment.truth import read_truth
from maskmesh.media.video_reader import read_frames
from tools.make_sample import CLICKS, FOLDER, FRAMES, HEIGHT, SAMPLE_SEED, WIDTH, draw_all
from tools.table_clip import clip as table


def test_committed_files_match_the_script() -> None:
    truth = read_truth(FOLDER / "masks.json")
    frames = list(read_frames(FOLDER / "clip.mp4"))
    assert len(frames) == len(truth) == FRAMES
    for index, (picture, masks) in enumerate(draw_all(FRAMES, SAMPLE_SEED)):
        assert set(truth[index]) == set(masks)
        for obj_id, mask in masks.items():
            # Sines differ in their last bit between machines, so a few pixels at an outline may differ.
            assert np.count_nonzero(truth[index][obj_id].decode() ^ mask) <= 3
        # The video codec is lossy and subsamples colours.
        assert np.abs(frames[index].astype(int) - picture).mean() < 6


def test_objects_are_hidden_as_intended() -> None:
    truth = read_truth(FOLDER / "masks.json")
    masks = {i: {o: m.decode() for o, m in objects.items()} for i, objects in truth.items()}
    assert all(mask.shape == (HEIGHT, WIDTH) for mask in masks[0].values())
    for obj_id, (x, y) in CLICKS.items():
        assert masks[0][obj_id][y, x]
    area = {o: np.array([np.count_nonzero(masks[i][o]) for i in range(FRAMES)]) for o in CLICKS}
    # The wheel passes in front of the flower, which stays partly visible.
    assert area[1].min() > 0.95 * area[1].max()
    assert 0.5 * area[2].max() < area[2].min() < 0.8 * area[2].max()
    # The kite leaves the image for about a second and returns completely.
    hidden = np.nonzero(area[3] == 0)[0]
    assert 20 <= len(hidden) <= 35
    assert hidden.tolist() == list(range(hidden[0], hidden[-1] + 1))
    assert area[3][-1] > 0.95 * area[3].max()


def test_the_mug_hides_the_orange_on_the_table() -> None:
    truth = read_truth(FOLDER / "table_masks.json")
    frames = list(read_frames(FOLDER / "table.mp4"))
    assert len(frames) == len(truth) == table.FRAMES
    assert frames[0].shape == (table.HEIGHT, table.WIDTH, 3)
    masks = {i: {o: m.decode() for o, m in objects.items()} for i, objects in truth.items()}
    for obj_id, (x, y) in table.CLICKS.items():
        assert masks[0][obj_id][y, x]
    area = {o: np.array([np.count_nonzero(masks[i][o]) for i in masks]) for o in table.CLICKS}
    # The orange passes behind the mug, comes out completely, and stops half behind the pear.
    orange = area[table.ORANGE] / area[table.ORANGE].max()
    assert np.nonzero(orange == 0)[0].tolist() == [21, 22]
    assert orange[30:40].max() > 0.95
    assert 0.4 < orange[40:].min() < 0.6
