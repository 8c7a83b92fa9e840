"""The tables of English that the explanation of a pair reads: what is grammar, what negates, what counts, what opposes.

Short on purpose: they serve to point something out to a moderator, and no score depends on them.
"""

from __future__ import annotations


def _words(*lines: str) -> list[str]:
    """`"a b", "c"` -> `["a", "b", "c"]`."""
    return " ".join(lines).split()


def _set(*lines: str) -> frozenset[str]:
    return frozenset(_words(*lines))


def _canonical(*lines: str) -> dict[str, str]:
    """`"be: is are"` -> `{"be": "be", "is": "be", "are": "be"}`."""
    table: dict[str, str] = {}
    for line in lines:
        head, _, rest = line.partition(":")
        table |= dict.fromkeys([head, *rest.split()], head)
    return table


FUNCTION = {word: word for word in _words(
    "the this that these those there here i me my mine myself you your yours yourself he him his she her hers it its",
    "itself we us our ours ourselves they them their theirs themselves one ones someone somebody something anyone",
    "anybody anything everyone everybody everything who whom whose what which when where why how whether if then else",
    "than as so such too also very just only even still yet already again of in on at by for from to into onto with",
    "within about over under above below between among through during before after since until till against toward",
    "towards across along around near off out up down per via because while although though but and or nor either",
    "neither both all any each every some many much more most less least few other another same own can could may",
    "might must shall should will would ought not no none never nobody nothing nowhere without let 's please ever",
)} | _canonical(
    "be: am is are was were been being 're 'm",
    "do: does did done doing",
    "have: has had having 've",
    "a: an",
    "can: ca",
    "will: wo 'll",
    "shall: sha",
    "would: 'd",
    "not: n't nt",
    "you: u",
    "and: &",
    "vs: versus",
)  # fmt: skip
"""Words of grammar -> the form that stands for them. They pair only with themselves, never by nearness of meaning."""

UNAPOSTROPHISED = _set(
    "dont doesnt didnt isnt arent wasnt werent cant couldnt wouldnt shouldnt hasnt havent hadnt wont mustnt"
)
"""Contractions of "not" as they are often typed."""

NEGATIONS = _set("not no none never nobody nothing nowhere without neither nor non unable")

IRREGULAR = _canonical(
    "buy: bought", "sell: sold", "go: went gone", "get: got gotten", "make: made", "take: took taken",
    "give: gave given", "find: found", "think: thought", "teach: taught", "lose: lost", "win: won", "send: sent",
    "spend: spent", "wake: woke woken",
    "build: built", "write: wrote written", "speak: spoke spoken", "break: broke broken", "choose: chose chosen",
    "eat: ate eaten", "drink: drank drunk", "fall: fell fallen", "grow: grew grown", "know: knew known",
    "see: saw seen", "say: said", "tell: told", "feel: felt", "keep: kept", "leave: left", "meet: met", "pay: paid",
    "hear: heard", "shrink: shrank shrunk", "catch: caught",
    "hold: held", "run: ran", "begin: began begun", "become: became", "come: came", "drive: drove driven",
    "fly: flew flown", "forget: forgot forgotten", "lie: lying", "die: dying", "steal: stole stolen",
    "sleep: slept", "understand: understood", "wear: wore worn", "child: children kid kids", "man: men",
    "woman: women", "person: people persons", "foot: feet", "tooth: teeth", "mouse: mice", "wife: wives",
    "life: lives", "phenomenon: phenomena", "datum: data", "index: indices", "math: maths mathematics",
    "colour: color colours colors", "favourite: favorite", "organise: organize", "programme: programmes",
)  # fmt: skip
"""Word -> what it is a form of, where the spelling does not tell."""

NOT_INFLECTED = _set("news united evening series species lens always perhaps something wedding")
"""Words that look like a form of a shorter word and are none."""

ALIASES = _canonical(
    "usa: us u.s u.s.a america american americans", "uk: u.k britain british", "china: chinese", "france: french",
    "spain: spanish", "greece: greek greeks", "switzerland: swiss", "netherlands: dutch holland",
)  # fmt: skip
"""Names -> the name they go by; read only where the word is written as a name."""

NAME_TITLES = _set("mr mrs ms dr prof sir lady lord president minister prime pm king queen pope senator")

SMALL = dict(zip(
    _words("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
           "seventeen eighteen nineteen"), range(20), strict=True,
))  # fmt: skip
TENS = dict(zip(_words("twenty thirty forty fifty sixty seventy eighty ninety"), range(20, 100, 10), strict=True))
SCALES = {
    "hundred": 100, "thousand": 10**3, "lakh": 10**5, "lakhs": 10**5, "lac": 10**5, "lacs": 10**5, "million": 10**6,
    "crore": 10**7, "crores": 10**7, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
ORDINALS = dict(
    zip(_words("first second third fourth fifth sixth seventh eighth ninth tenth"), range(1, 11), strict=True)
)
ROMAN = dict(zip(_words("I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI"), range(1, 17), strict=True))
BEFORE_ROMAN = _set("war part chapter type phase class volume level grade stage tier schedule article ww")
"""After these words a single I, V or X is a number."""

MEASURES = {
    "km": ("m", 1000.0), "kilometre": ("m", 1000.0), "kilometer": ("m", 1000.0), "metre": ("m", 1.0),
    "meter": ("m", 1.0), "m": ("m", 1.0), "cm": ("m", 0.01), "mm": ("m", 0.001), "mile": ("m", 1609.344),
    "foot": ("m", 0.3048), "ft": ("m", 0.3048), "inch": ("m", 0.0254), "inches": ("m", 0.0254),
    "kg": ("kg", 1.0), "kilo": ("kg", 1.0), "kilogram": ("kg", 1.0), "gram": ("kg", 0.001), "g": ("kg", 0.001),
    "mg": ("kg", 1e-6), "lb": ("pound", 1.0), "pound": ("pound", 1.0), "£": ("pound", 1.0), "gbp": ("pound", 1.0),
    "second": ("s", 1.0), "sec": ("s", 1.0), "minute": ("s", 60.0), "min": ("s", 60.0), "hour": ("s", 3600.0),
    "hr": ("s", 3600.0), "day": ("s", 86400.0), "week": ("s", 604800.0), "month": ("month", 1.0),
    "year": ("month", 12.0), "yr": ("month", 12.0), "decade": ("month", 120.0),
    "kb": ("byte", 2.0**10), "mb": ("byte", 2.0**20), "gb": ("byte", 2.0**30), "tb": ("byte", 2.0**40),
    "litre": ("l", 1.0), "liter": ("l", 1.0), "ml": ("l", 0.001), "%": ("%", 1.0), "percent": ("%", 1.0),
    "$": ("dollar", 1.0), "dollar": ("dollar", 1.0), "usd": ("dollar", 1.0), "euro": ("euro", 1.0),
    "€": ("euro", 1.0), "eur": ("euro", 1.0), "rupee": ("rupee", 1.0), "₹": ("rupee", 1.0), "rs": ("rupee", 1.0),
    "inr": ("rupee", 1.0), "celsius": ("°C", 1.0), "fahrenheit": ("°F", 1.0), "mph": ("mph", 1.0),
    "kmph": ("km/h", 1.0), "point": ("point", 1.0), "mark": ("mark", 1.0),
}  # fmt: skip
"""A unit -> (what it is measured in, how many of those it is)."""

EXCHANGEABLE = _set(
    "same similar similarity equal equivalent different compatible related relation relationship connection vs versus",
    "sibling married marry mix together like",
)
"""Relations that run both ways, where they stand between two words: "A is similar to B" is "B is similar to A"."""

EITHER_WAY = _set("distance difference differ compare comparison far")
"""The same, wherever they stand in the question."""

ROLE_WORDS = _set("than to from into over against before after by because")
"""Words of grammar that give what stands on either side of them a different role."""

LOOSE_WORDS = _set("for in of on at with 's if when while")
"""Words of grammar that phrases are hung on in either order: "a maths book for beginners"."""

SIDE_BY_SIDE = _set("between among amongst difference differ different compare comparison better which vs")
"""With one of these, "A and B" asks for a choice as "A or B" does."""

PARTICLES = _set("in out on off up down")
"""Opposites only after the same word: "turn on", "turn off"."""

_OPPOSITES = """
before/after more/less most/least fewer/more better/worse best/worst good/bad high/low higher/lower highest/lowest
high/lower higher/low big/small bigger/smaller biggest/smallest large/small larger/smaller largest/smallest long/short
longer/shorter longest/shortest tall/short taller/shorter fast/slow faster/slower fastest/slowest quick/slow
quickly/slowly hot/cold warm/cool warm/cold hard/easy hardest/easiest hard/soft difficult/easy harder/easier rich/poor
richest/poorest strong/weak stronger/weaker old/new old/young older/younger oldest/youngest early/late earliest/latest
cheap/expensive cheapest/expensive dark/light heavy/light thick/thin fat/thin wet/dry deep/shallow wide/narrow
true/false right/wrong right/left positive/negative public/private dead/alive safe/dangerous safe/unsafe
healthy/unhealthy happy/sad happy/unhappy possible/impossible legal/illegal moral/immoral mature/immature
patient/impatient perfect/imperfect dependent/independent direct/indirect visible/invisible
increase/decrease increase/reduce raise/lower raise/reduce gain/lose gain/reduce grow/shrink rise/fall win/lose buy/sell
lend/borrow import/export start/stop begin/end start/end start/finish open/close add/remove add/subtract add/delete
install/uninstall install/remove enable/disable lock/unlock mute/unmute upload/download send/receive push/pull
accept/reject accept/refuse agree/disagree like/dislike like/hate love/hate trust/distrust pass/fail succeed/fail
success/failure connect/disconnect create/delete create/destroy include/exclude attack/defend arrive/leave enter/leave
attract/repel encrypt/decrypt compress/decompress multiply/divide hire/fire employ/dismiss
remember/forget allow/forbid allow/ban hide/show save/spend sleep/wake freeze/melt freeze/thaw borrow/return
advantage/disadvantage pro/con benefit/drawback benefit/disadvantage advantage/drawback strength/weakness
profit/loss gain/loss maximum/minimum max/min maximise/minimise maximize/minimize ascending/descending top/bottom
above/below over/under inside/outside indoor/outdoor front/back north/south east/west morning/evening
summer/winter boy/girl male/female man/woman husband/wife father/mother dad/mom son/daughter brother/sister
boyfriend/girlfriend uncle/aunt king/queen hero/villain friend/enemy introvert/extrovert optimist/pessimist
buyer/seller employer/employee landlord/tenant heaven/hell war/peace beginner/expert democrat/republican
in/out on/off up/down theist/atheist vegetarian/nonvegetarian cause/cure forward/backward
"""
OPPOSITES = frozenset(frozenset(pair.split("/")) for pair in _OPPOSITES.split())
