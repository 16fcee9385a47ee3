"""Questions that no picture of this world answers: the right answer is "I don't know".

Wordings and nouns for evaluation are never trained on.
"""

from __future__ import annotations

import numpy as np

from demo_models.language.statement_wording import article, pick
from demo_models.language.unrelated_texts import nouns, sample_off_world
from demo_models.world.vocabulary import COLOURS, SHAPES

DONT_KNOW = "I don't know"


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


ABOUT_THINGS = _entries(
    """is this {n} | is it {n} | is there {n} | is that {n} or {m} | do you see {n} |
    what colour is the {b} | what color is the {b} | where is the {b} | how many {b}s are there |
    is there {n} in the picture | what is the {b} doing | what shape is the {b} | who has the {b} |
    is the {b} large or small | how old is the {b} | is the {b} {c} | what is {n} |
    can you see {n} next to the {s} | is there {n} behind the {s} | what is the {b} called |
    does the {b} have {m} | why is the {b} here | what is on the {b} | is the {b} asleep |
    describe the {b} | is this a photo of {n} | who owns the {b} | can {n} fly | do you like {n} |
    is the {s} bigger than {n} | how much does the {b} cost | what does the {b} eat |
    what kind of {b} is this | what breed is the {b} | are there any {b}s | count the {b}s |
    is {n} in the image | what is the {b} next to | which {b} is this | draw {n} |
    what is the {b}'s name | how far away is the {b} | how heavy is the {b}"""
)
ABOUT_THINGS_HELD_OUT = _entries(
    """does this look like {n} | what is the {b} made of | is a {c} {b} standing there |
    is anybody riding the {b} | would {n} fit in here | has the {b} got {m} |
    could this be {n} | where did the {b} go | is {n} visible | when was the {b} built |
    does the {b} belong to somebody | which {b} do you prefer | is this the same {b} |
    how fast is the {b} | what sound does {n} make | who made the {b} | is the {b} hungry |
    can i buy the {b} | what happened to the {b} | how tall is the {b}"""
)
ABOUT_OTHERS = _entries(
    """what is the capital of {p} | who is the president of {p} | where is {p} |
    how many people live in {p} | what language do they speak in {p} | is this {p} |
    what time is it | what day is it | what is your name | how are you | who are you | hello |
    what is the weather like | is it raining | is it cold outside | who drew this |
    who painted this picture | when was this photo taken | where was this photo taken |
    what is two plus two | what is {d} plus {e} | what is {d} times {e} | tell me a joke |
    what is the meaning of life | who wrote this book | what does the text say |
    what does the sign say | what is written here | who is in the picture | who is this |
    is anyone smiling | how many people are there | what are they doing | is he happy |
    what is she wearing | are they friends | what season is it | is it day or night |
    what happened before | what will happen next | why | who | how | when | really | are you sure |
    what do you think | what is love | sing a song | write a poem about {b}s | translate this |
    what is your favourite {b} | what is the price | how long is it | how heavy is it |
    what brand is it | what year is it | who won the game | what sport is this |
    which country is this | what is the name of this place | is this real | is it dangerous |
    what does it taste like | what does it smell like | how does it work | what is it made of |
    is it alive | can it swim | what is it for | do you speak {l} | how old is it | thank you |
    good morning | ok | please help me | what is the largest {b} in the world |
    explain quantum physics | what is the speed of light | who invented the {b} |
    how do i cook {b} | what should i eat today | give me the news | stop | yes | no"""
)
ABOUT_OTHERS_HELD_OUT = _entries(
    """what's the main city of {p} | tell me about {p} | how do i get to {p} |
    which money do they use in {p} | is {p} far from here | who was born in {p} |
    can you hear music | what is the date today | do you sleep | what is {d} minus {e} |
    how was your day | who took this shot | is somebody crying | what mood does it have |
    what is the time | does it make noise | is this expensive | what is the law |
    say something in {l} | which animal is this | what vehicle is this | what room is this |
    are they indoors | who is the author | is it edible | will it rain tomorrow |
    what is the largest planet | how many legs does it have | is this a man or a woman |
    what is he holding | which team is playing | what food is this | is the light on |
    recommend a film | when did the war end | how deep is the ocean | what is on the menu"""
)
PLACES = _entries(
    """germany | italy | spain | japan | china | india | brazil | canada | mexico | egypt | kenya |
    norway | sweden | poland | turkey | greece | russia | australia | peru | chile | cuba | texas |
    paris | london | berlin"""
)
PLACES_HELD_OUT = ("france", "portugal", "austria", "nigeria", "vietnam", "argentina", "rome")
LANGUAGES = ("german", "spanish", "chinese", "latin")


def strange_question(rng: np.random.Generator, held_out: bool = False) -> str:
    """Return one question without its mark.

    Args:
        rng: Source of randomness.
        held_out: Use only wordings, nouns and places that training never shows.
    """
    draw = rng.random()
    if draw < 0.08 and not held_out:
        return sample_off_world(rng)
    things = ABOUT_THINGS_HELD_OUT if held_out else ABOUT_THINGS
    others = ABOUT_OTHERS_HELD_OUT if held_out else ABOUT_OTHERS
    words = nouns(held_out)
    first, second = pick(rng, words), pick(rng, words)
    return pick(rng, things if draw < 0.6 else others).format(
        b=first,
        n=f"{article(first)} {first}",
        m=f"{article(second)} {second}",
        c=pick(rng, COLOURS),
        s=pick(rng, SHAPES),
        p=pick(rng, PLACES_HELD_OUT if held_out else PLACES),
        l=pick(rng, LANGUAGES),
        d=int(rng.integers(2, 100)),
        e=int(rng.integers(2, 100)),
    )
