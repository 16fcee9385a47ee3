"""Texts about things the demo world does not have: they are true of none of its pictures.

A third of the nouns and of the strange strings is never trained on, so that an evaluation
can ask what the model does with words it has not met.
"""

from __future__ import annotations

import numpy as np

from demo_models.world.vocabulary import BACKGROUNDS, SEEN_PAIRS

NOUN_LIST = """
dog cat bird horse cow sheep elephant bear zebra giraffe lion tiger cheetah monkey rabbit mouse
fox wolf fish shark whale snake frog turtle spider bee butterfly duck chicken pig car bus truck
train bicycle motorcycle airplane boat ship helicopter rocket tractor person man woman child
baby boy girl face hand crowd soldier doctor teacher dancer house building tower bridge church
castle street city road airport station school kitchen bedroom bathroom office garden park tree
flower forest mountain river lake beach sea island desert sky cloud rainbow snow waterfall
sunset grass leaf apple banana pizza cake bread sandwich coffee cup bottle bowl fork knife spoon
plate egg carrot tomato cheese salad soup wine chair table sofa bed lamp clock book phone laptop
keyboard television camera umbrella backpack shoe hat shirt jacket tie sock glove suitcase
guitar piano violin drum ball kite skateboard toothbrush scissors vase mirror window door ladder
hammer key candle hexagon pentagon octagon arrow spiral pyramid cube cylinder robot dragon ghost
unicorn newspaper map letter number sign logo chart screenshot receipt menu
"""
STRANGE_LIST = """
一只狗 | 城市的夜晚 | 一张汽车的照片 | 海边的日落 | 猫在沙发上 | 你好 | 学校 | 山和河 |
собака | ночной город | привет | машина | дом у реки | قطة | مدينة | 犬の写真 | 夜の街 |
고양이 | ein hund | une voiture rouge | el gato negro | un cane | le ciel bleu | das haus |
asdf | qwertyuiop | lorem ipsum dolor sit amet | xkcd zzz | hjkl | foo bar baz | 12345 |
3.14159 | ??? | !!! | - | http://example.com | user@example.com | 😀🎉 | 🐶 | i do not know |
hello world | love | freedom | what is this | happiness | the meaning of life | yesterday |
music | mathematics | war | good morning | win a prize
"""
PLAIN_LIST = """
a {n} | {n} | a photo of a {n} | a photo of a {n} | a picture of a {n} | the {n} |
an image of the {n} | a drawing of a {n} | a photo of one {n} | two {n}s |
a close-up of a {n} | a photo of {n}s | a black and white photo of a {n} |
a painting of a {n}
"""
PAIR_LIST = """
a {n} and a {m} | a {n} next to a {m} | a {n} on a {m} | a {n} in the {m} | a {n} with a {m} |
a photo of a {n} in front of a {m} | a {n} playing with a {m} | the inside of a {n} |
a {n} at night | a {n} in the rain | an old {n} | a person holding a {n} |
a {n} in black and white
"""
MIXED_LIST = """
a {c} {n} | {c} {n} | a photo of a {c} {n} | a {c} {s} and a {n} | a {n} on a {b} background |
a small {c} {n} | three {c} {n}s | a {c} {n} and a {m} | a {n} to the left of a {c} {s} |
a {s} on a {n} | a photo of a {n} with a {b} background | a {n} in the middle
"""


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


NOUNS = tuple(NOUN_LIST.split())
STRANGE = _entries(STRANGE_LIST)
PLAIN_TEMPLATES = _entries(PLAIN_LIST)
PAIR_TEMPLATES = _entries(PAIR_LIST)
MIXED_TEMPLATES = _entries(MIXED_LIST)


def is_held_out(index: int) -> bool:
    """Tell whether the noun or strange string at this index is kept for evaluation."""
    return index % 3 == 2


def nouns(held_out: bool) -> list[str]:
    """Return the nouns for training, or the third kept for evaluation."""
    return [noun for index, noun in enumerate(NOUNS) if is_held_out(index) == held_out]


def strange_texts(held_out: bool) -> list[str]:
    """Return foreign, meaningless and abstract strings for training or for evaluation."""
    return [text for index, text in enumerate(STRANGE) if is_held_out(index) == held_out]


def _letters(rng: np.random.Generator) -> str:
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(3, 10)))
    return "".join(letters)


def sample_off_world(rng: np.random.Generator, held_out: bool = False) -> str:
    """Return one text that is true of no picture of this world.

    Args:
        rng: Source of randomness.
        held_out: Use only nouns and strings that training never shows.
    """
    draw = rng.random()
    if draw < 0.14:
        choices = strange_texts(held_out)
        return choices[int(rng.integers(len(choices)))]
    if draw < 0.18:
        return _letters(rng)
    templates = (
        PLAIN_TEMPLATES if draw < 0.55 else PAIR_TEMPLATES if draw < 0.72 else MIXED_TEMPLATES
    )
    words = nouns(held_out)
    first, second = (words[int(rng.integers(len(words)))] for _ in range(2))
    colour, shape = SEEN_PAIRS[int(rng.integers(len(SEEN_PAIRS)))]
    return templates[int(rng.integers(len(templates)))].format(
        n=first,
        m=second,
        c=colour,
        s=shape,
        b=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
    )
