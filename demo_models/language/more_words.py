"""Further wordings of questions, which only the last training stage uses.

Many verbs and turns with the same meaning, so that a verb the model has never met is taken for
one more of them, not for a question about something else. Slots as in `question_words`.
"""

from __future__ import annotations

import numpy as np

from demo_models.language.statement_wording import pick


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


def _with(verbs: tuple[str, ...], *templates: str) -> tuple[str, ...]:
    """Return each template with each verb in the place of VERB."""
    return tuple(template.replace("VERB", verb) for template in templates for verb in verbs)


HAVE = _entries(
    """have | include | hold | feature | display | depict | present | offer | carry | give |
    hide | bear | boast | exhibit | picture | portray | reveal | keep"""
)
THERE = _entries(
    """there | present | in sight | to be seen | in there | around | on the page | in view |
    among them | in the frame | on display | on the canvas | inside | included | depicted |
    recognizable | anywhere | on it"""
)
PERCEIVE = _entries(
    """see | find | notice | make out | detect | recognise | observe | discover | point out |
    perceive | identify | tell | show me | pick out"""
)
PUT = _entries(
    """placed | situated | put | lying | sitting | positioned | painted | standing | shown |
    to be found | hiding | displayed | arranged | set | seen | resting | depicted | kept"""
)
LOOK = _entries(
    """in this {picture} | looking at the {picture} | on the page | in the {picture} |
    on the canvas | here | in this one | judging by the {picture} | as you see it | in it"""
)

MORE: dict[str, tuple[str, ...]] = {
    "presence": (
        *_with(HAVE, "does the {picture} VERB {a}", "does this {picture} VERB {a}",
               "does it VERB {a}", "does the {picture} VERB any {many}"),
        *_with(THERE, "is {a} VERB", "are {many} VERB", "is there {a} VERB"),
        *_with(PERCEIVE, "can you VERB {a}", "do you VERB {a}", "could i VERB {a}",
               "can one VERB {a} in the {picture}", "do you VERB any {many}"),
        *_with(LOOK, "VERB, is there {a}", "VERB, do you see {a}"),
        *_entries(
        """has this {picture} got {a} | has it got {a} | have you seen {a} | got {a} |
        is there {a} or not | i am looking for {a}, is there one | is there at least one {one} |
        there's {a}, isn't there | {a}: yes or no | is {a} one of the {thing}s | see {a} |
        yes or no: is there {a} | is anything in the {picture} {a} | tell me if there is {a} |
        do any of the {thing}s look like {a} | say whether there is {a} | any {one} there |
        check whether there is {a} | we have {a} here, don't we |
        is there {a} among the {thing}s | i see {a}, do you | am i right that there is {a} |
        is it true that there is {a}"""
    ),
    ),
    "is a": _entries(
        """is what you see {a} | is the {thing} in the {picture} {a} | is this one {a} |
        could it be {a} | do i see {a} | are we looking at {a} | is this drawing {a} |
        yes or no: is this {a} | this is {a}, isn't it | it is {a}, right | that's {a}, no |
        did somebody draw {a} | is the only {thing} {a} | is {a} what you see |
        does it look like {a} | is this here {a} | am i looking at {a} | is the answer {a}"""
    ),
    "is colour": _entries(
        """is {ref} {value} in colour | is {ref} a {value} one | is {ref} painted {value} |
        is {ref} really {value} | {ref} is {value}, isn't it | yes or no: is {ref} {value} |
        does {ref} appear {value} | is {ref} filled with {value} | is {value} right for {ref} |
        do you think {ref} is {value} | would you call {ref} {value} | can {ref} be {value} |
        does {ref} seem {value} | is it true that {ref} is {value} | is {ref} made {value} |
        is {value} the {colour} of {ref} | can we call {ref} {value} |
        is {ref} shown in {value}"""
    ),
    "is background": _entries(
        """does the background look {value} | is there {value} behind it |
        is the canvas {value} | would you call the background {value} |
        is {value} the background {colour} | the background is {value}, right |
        is the background really {value} | yes or no: is the background {value} |
        is the back of the {picture} {value} | is the {picture}'s background {value} |
        is it drawn on {value} | does it have a {value} background |
        do you see a {value} background"""
    ),
    "where": (
        *_with(PUT, "where is {ref} VERB", "where was {ref} VERB",
               "where in the {picture} is {ref} VERB"),
        *_with(LOOK, "VERB, where do you see {ref}", "VERB, where do i find {ref}",
               "where VERB is {ref}"),
        *_entries(
        """{ref}: where is it | {ref}, where | where would {ref} be | where to find {ref} |
        can you tell me where {ref} is | could you show me where {ref} is |
        where did you see {ref} | do you know where {ref} is | find {ref} for me |
        where on the page is {ref} | i cannot find {ref}, where is it | help me find {ref} |
        what corner or side is {ref} in | describe the position of {ref} |
        is {ref} on the left or on the right or elsewhere | at what point is {ref} |
        point me to {ref} | whereabouts do i see {ref} | which side or corner has {ref} |
        give me the position of {ref} | which area holds {ref} |
        in which area of the {picture} is {ref} | where does {ref} sit |
        where does one see {ref} | where does {ref} appear | where do we have {ref} |
        what position does {ref} have | where might {ref} be |
        in which corner or on which side is {ref} | {ref} is where | what is {ref}'s position |
        where can {ref} be seen | where shall i look to see {ref}"""
    ),
    ),
    "colour": (
        *_with(_entries("painted | coloured | filled | shown | made | done | kept | displayed"),
               "in which {colour} is {ref} VERB", "what {colour} is {ref} VERB in"),
        *_entries(
        """{ref} is what {colour} | {ref}: what {colour} | which {colour} was {ref} given |
        of what {colour} is {ref} | what {colour} would you say {ref} is |
        guess the {colour} of {ref} | in which {colour} do you see {ref} |
        what {colour} does {ref} show | how is {ref} coloured |
        what {colour} did they paint {ref} | which {colour} would you call {ref} |
        describe the {colour} of {ref} | i want the {colour} of {ref} |
        what {colour} might {ref} be | {ref} comes in what {colour} |
        which of the {colour}s does {ref} have | what {colour} can you see on {ref} |
        the {colour} {ref} has is"""
    ),
    ),
    "the colour": _entries(
        """which {colour} is it | in what {colour} is it | what {colour} can you see |
        say the {colour} | give me the {colour} | what {colour} is shown here | {colour}"""
    ),
    "shape": _entries(
        """{ref} is what shape | {ref}: what shape | of what shape is {ref} |
        what shape might {ref} be | what sort of shape is {ref} | which form has {ref} |
        describe the shape of {ref} | what shape was {ref} given |
        which shape would you call {ref} | guess the shape of {ref} | in what shape is {ref} |
        how is {ref} shaped | what figure is {ref} | what kind of form is {ref} |
        what shape would you say {ref} is | i want the shape of {ref}"""
    ),
    "the shape": _entries(
        """what shape appears here | which shape is it | which shape can you see |
        say the shape | what figure do you see | give me the shape | which shape is shown |
        what form do you see"""
    ),
    "count": (
        *_with(HAVE, "how many {thing}s does it VERB",
               "how many {thing}s does this {picture} VERB"),
        *_with(PUT, "how many {thing}s are VERB here"),
        *_entries(
        """what is the total number of {thing}s | in total, how many {thing}s |
        the number of {thing}s | how many {thing}s altogether | give me a count of {thing}s |
        how many {thing}s can be seen | how many {thing}s in this {picture} |
        {thing}s: how many"""
    ),
    ),
    "count of": (
        *_with(HAVE, "how many {many} does it VERB", "how many {many} does this {picture} VERB"),
        *_with(PUT, "how many {many} are VERB here"),
        *_entries(
        """what is the total number of {many} | in total, how many {many} |
        the number of {many} | how many {many} altogether | give me a count of {many} |
        how many {many} can be seen | how many {many} in this {picture} | {many}: how many |
        how many of them are {many}"""
    ),
    ),
    "size": _entries(
        """is {ref} a big one | what size does {ref} have | describe the size of {ref} |
        {ref}: what size | would you call {ref} large or small | does {ref} look large or small |
        {ref} is what size | is {ref} rather large or rather small | of what size is {ref} |
        how big would you say {ref} is | small or large: {ref} | is {ref} drawn large or small |
        how big does {ref} look"""
    ),
    "background": _entries(
        """which {colour} is behind {ref} | what {colour} is the canvas |
        on which {colour} is it painted | of what {colour} is the background |
        the background is what {colour} | background {colour} |
        what {colour} do you see behind {ref} | what {colour} fills the background |
        which background {colour} does the {picture} have | describe the background"""
    ),
    "relation": _entries(
        """would you find {first} {relation} {second} | is {first} placed {relation} {second} |
        yes or no: is {first} {relation} {second} | do you see {first} {relation} {second} |
        {first} lies {relation} {second}, doesn't it | is {first} really {relation} {second}"""
    ),
    "describe": _entries(
        """what does it show | what can be seen here | what have you got here |
        what do you make out | tell me about this {picture} | what is apparent here |
        what is in it | give me a description | what is displayed here |
        name everything in the {picture}"""
    ),
    "places": _entries(
        """where is everything | what is where | where are the {thing}s |
        list the {thing}s and their places | describe the {picture} with places |
        tell me what is where | where is each {thing} | name every {thing} and its place"""
    ),
}  # fmt: skip
"""By family; none of these is among the wordings that are kept for evaluation."""

STARTS, ENDS = (
    "bcdfghjklmnprstvwz",
    ("a", "e", "i", "o", "u", "el", "or", "ing", "ent", "ish", "ap"),
)
UNKNOWN_WORD_SHARE = 0.06


def with_unknown_word(text: str, rng: np.random.Generator) -> str:
    """Return a question with a word that means nothing somewhere in it."""
    syllables = (pick(rng, STARTS) + pick(rng, ENDS) for _ in range(int(rng.integers(1, 4))))
    words = text.split()
    words.insert(int(rng.integers(len(words) + 1)), "".join(syllables))
    return " ".join(words)
