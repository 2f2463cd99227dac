"""The sets of training images: how often each is drawn, what its masks mean, and its terms.

The folder of a set has ``images/NAME.jpg`` and ``masks/NAME.png``; ECSSD lies beside the others.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """One set of images with masks.

    ``share`` is the set's part of the drawn photographs, relative to the others.  The masks of ``parts`` are
    regions of a larger whole: they are never cut out, and with ``is_whole`` their union is an object too.
    ``is_open`` marks sets whose terms permit any use: they form the open recipe.
    """

    name: str
    share: float
    source: str
    terms: str
    is_open: bool = False
    parts: bool = False
    is_whole: bool = False


_RESEARCH = "none stated; a research data set"
_UNSTATED = "none stated"

ECSSD = ImageSet(name="ecssd", share=0.22, source="ECSSD (Shi et al., 2016)", terms=_RESEARCH)

IMAGE_SETS = (
    ImageSet(name="osie", share=0.26, source="OSIE (Xu et al., 2014)", terms=_RESEARCH),
    ImageSet(name="duts", share=0.15, source="DUTS-TR (Wang et al., 2017)", terms=_RESEARCH),
    ImageSet(name="subdut", share=0.02, source="DUT-OMRON (Yang et al., 2013)", terms=_RESEARCH),
    ImageSet(
        name="ccp",
        share=0.09,
        source="Clothing Co-Parsing (Yang et al., 2014)",
        terms="Apache-2.0",
        is_open=True,
        parts=True,
        is_whole=True,
    ),
    ImageSet(name="animals", share=0.10, source="pictures of wild animals", terms="CC BY 4.0", is_open=True),
    ImageSet(name="people", share=0.09, source="VikramShenoy97/Human-Segmentation-Dataset", terms=_UNSTATED),
    ImageSet(name="hair", share=0.02, source="Figaro1k (Svanera et al., 2016)", terms=_RESEARCH, parts=True),
    ImageSet(
        name="cats",
        share=0.04,
        source="pictures of groups of cats",
        terms="public domain, MIT",
        is_open=True,
    ),
    ImageSet(
        name="pets128",
        share=0.04,
        source="Oxford-IIIT Pet (Parkhi et al., 2012)",
        terms="CC BY-SA 4.0",
    ),
    ImageSet(name="food", share=0.03, source="pictures of plates with food", terms="MIT", is_open=True),
    ImageSet(
        name="football", share=0.02, source="pictures of matches", terms="MIT", is_open=True, parts=True
    ),
    ImageSet(name="boards", share=0.01, source="circuit boards", terms="CC BY 4.0", is_open=True),
    ImageSet(name="mushrooms", share=0.01, source="crowded mushrooms", terms="CC BY 4.0", is_open=True),
    ImageSet(name="lecturers", share=0.01, source="a person at a board", terms="CC BY 4.0", is_open=True),
    ImageSet(name="cows", share=0.01, source="MSRC (Shotton et al., 2006)", terms=_UNSTATED),
)
