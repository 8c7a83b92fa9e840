"""More words and templates to train on; none of them, in the same pair or template, is in the held-out half.

What is held out stays as it is (`dupq.training.contrast_words`), so that figures on it can be compared from one model
to the next; these may grow.
"""

from __future__ import annotations


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    found = (pair.replace("_", " ").split("/") for pair in text.split())
    return tuple((one, other) for one, other in found)


OPPOSITES = _pairs("""
better/worse bigger/smaller higher/lower longer/shorter faster/slower richer/poorer stronger/weaker older/younger
cheaper/costlier earlier/later easier/harder hotter/colder heavier/lighter deeper/shallower thicker/thinner
wider/narrower tallest/shortest fastest/slowest richest/poorest hottest/coldest biggest/tiniest cheapest/dearest
heaviest/lightest big/small tall/short quick/slow easy/difficult hard/soft heavy/light thick/thin wet/dry deep/shallow
wide/narrow dark/bright early/late true/false right/wrong left/right positive/negative public/private alive/dead
healthy/unhealthy happy/sad happy/unhappy possible/impossible moral/immoral mature/immature visible/invisible
direct/indirect dependent/independent perfect/imperfect reduce/increase expand/shrink grow/shrink rise/fall
rising/falling import/export begin/end start/finish insert/delete lock/unlock mute/unmute send/receive push/pull
follow/unfollow block/unblock subscribe/unsubscribe accept/reject accept/refuse agree/disagree like/dislike
trust/distrust pass/fail succeed/fail success/failure connect/disconnect create/delete build/destroy include/exclude
attack/defend arrive/depart enter/exit attract/repel compress/decompress multiply/divide hire/fire remember/forget
allow/forbid hide/show save/spend wake/sleep freeze/melt pro/con pros/cons benefit/disadvantage strengths/weaknesses
profit/loss maximum/minimum maximize/minimize ascending/descending above/below over/under inside/outside indoor/outdoor
front/back morning/evening summer/winter day/night hero/villain friend/enemy introvert/extrovert introverts/extroverts
optimist/pessimist buyer/seller buyers/sellers employer/employee landlord/tenant heaven/hell war/peace beginner/expert
beginners/experts up/down in/out on/off forward/backward forwards/backwards vertical/horizontal gaining/losing
buying/selling gained/lost bought/sold increased/decreased increasing/decreasing starting/stopping winning/losing
raising/lowering loved/hated loves/hates liked/disliked worth/worthless useful/useless careful/careless married/single
married/divorced full/empty clean/dirty loud/quiet smooth/rough sharp/blunt modern/ancient temporary/permanent
internal/external local/global domestic/foreign urban/rural major/minor majority/minority odd/even active/passive
static/dynamic online/offline manual/automatic normal/abnormal common/rare famous/unknown popular/unpopular
lucky/unlucky fair/unfair honest/dishonest polite/rude kind/cruel brave/cowardly generous/selfish lazy/hardworking
smart/stupid ugly/beautiful underrated/overrated overweight/underweight optional/mandatory free/paid
undergraduate/postgraduate northern/southern eastern/western liberal/conservative left-wing/right-wing
capitalism/communism theist/atheist believe/doubt prove/disprove appear/disappear load/unload pack/unpack
charge/discharge activate/deactivate encode/decode ignore/notice praise/criticize reward/punish tighten/loosen
lengthen/shorten strengthen/weaken widen/narrow speed_up/slow_down turn_on/turn_off log_in/log_out sign_in/sign_out
check_in/check_out put_on/take_off get_on/get_off go_up/go_down without/with against/for despite/because_of
everyone/nobody everything/nothing all/none many/few often/rarely
earliest/latest nearest/farthest widest/narrowest strongest/weakest smartest/dumbest happiest/saddest
greatest/smallest coolest/warmest newest/oldest safest/riskiest greater/smaller fewer/more closer/farther
thinner/fatter kinder/crueler warmer/cooler sweeter/sourer smarter/dumber newer/older safer/riskier brighter/darker
fat/thin sweet/sour sweet/bitter warm/cool new/used new/old near/far simple/complex simple/complicated tight/loose
bold/timid calm/nervous rude/courteous guilty/innocent awake/asleep present/absent native/foreign natural/artificial
real/fake literal/figurative formal/informal explicit/implicit finite/infinite linear/nonlinear rational/irrational
regular/irregular reversible/irreversible sufficient/insufficient relevant/irrelevant responsible/irresponsible
mortal/immortal ethical/unethical healthier/unhealthier productive/unproductive lose/find teach/learn ask/answer
question/answer give/receive lead/follow stay/leave sit/stand laugh/cry live/die sink/float hit/miss
earn/spend lengthening/shortening rewind/fast-forward zoom_in/zoom_out move_in/move_out wake_up/fall_asleep
break_up/get_together inhale/exhale inflate/deflate dilute/concentrate evaporate/condense promote/demote
acquit/convict marry/divorce adopt/abandon approve/disapprove qualify/disqualify obey/disobey assemble/disassemble
gaining/shedding falling_in/falling_out entering/leaving arriving/departing opening/closing
supply/demand asset/liability assets/liabilities debit/credit gross/net income/expense victory/defeat
strength/weakness virtue/vice hope/despair pleasure/pain comedy/tragedy truth/lie fact/fiction birth/death
beginning/end childhood/adulthood sunrise/sunset winner/loser leader/follower teacher/student host/guest ally/enemy
predator/prey creditor/debtor optimism/pessimism theism/atheism democracy/dictatorship deflation/inflation
acid/base proton/electron input/output cause/effect entrance/exit ceiling/floor north-east/south-west
northward/southward upward/downward upstairs/downstairs clockwise/counterclockwise above_average/below_average
too_much/too_little too_many/too_few at_least/at_most
""")

GENDERED = _pairs("""
king/queen prince/princess actor/actress his/her him/her himself/herself grandfather/grandmother grandson/granddaughter
nephew/niece dad/mom brothers/sisters boyfriends/girlfriends gentleman/lady groom/bride lad/lass waiter/waitress
father-in-law/mother-in-law
""")

DIRECTED = (
    "How much does the bus from {P} to {Q} cost?", "What should I see on the way from {P} to {Q}?",
    "How many miles is it from {P} to {Q} by road?", "Can I send money from {P} to {Q}?",
    "Why do people emigrate from {P} to {Q}?", "Is it safe to drive from {P} to {Q} at night?",
    "How do I import goods from {P} into {Q}?", "Did {P} invade {Q}?", "Why did {P} attack {Q}?",
    "Does {P} export more than {Q}?", "Is {P} bigger than {Q}?", "Is {P} north of {Q}?",
    "Will {P} beat {Q} in the final?", "Why does {P} owe money to {Q}?", "How did {P} lose the match against {Q}?",
    "Is life in {P} better than in {Q}?", "Which visa does someone from {P} need in {Q}?", "Why did {A} leave {B}?",
    "How did {A} betray {B}?", "Does {A} owe {B} any money?", "What did {A} say to {B}?",
    "Did {A} learn to cook from {B}?", "Is {A} the boss of {B}?", "Is {A} the father of {B}?",
    "When did {A} propose to {B}?", "Was {A} born before {B}?", "Why is {A} angry with {B}?",
    "Could {A} beat {B} at chess?", "Did {A} call {B} yesterday?", "How did {A} help {B} find work?",
    "Who told {A} about {B}?", "Why did {A} write a letter to {B}?", "Is {A} {c} than {B}?",
    "Was {A} {c} than {B} in those days?", "Does {A} know more than {B}?", "Does {A} follow {B} on social media?",
    "Why was {A} chosen over {B}?", "Does {A} deserve the prize more than {B}?", "How do I convert {X} into {Y}?",
    "Can {X} be turned into {Y}?", "Is {X} a kind of {Y}?", "Why is {X} replacing {Y}?",
    "Should I give up {X} for {Y}?", "Is {X} more useful than {Y}?", "Does {X} cause more trouble than {Y}?",
    "Why do people prefer {X} to {Y}?", "Is {X} better than {Y}?", "Can I pay for {X} with {Y}?",
    "Did {X} come before {Y}?", "Why did {P} win against {Q}?", "What does {P} buy from {Q}?",
    "Is {X} cheaper than {Y}?", "Does {X} depend on {Y}?",
)  # fmt: skip
"""Who or what comes first matters."""

UNDIRECTED = (
    "What do {P} and {Q} have in common?", "Are {P} and {Q} at war?", "Which is cheaper, {P} or {Q}?",
    "Which city is nicer, {P} or {Q}?", "Is there a border between {P} and {Q}?", "Are {A} and {B} married?",
    "Who is {c}, {A} or {B}?", "Did {A} and {B} go to the same school?", "How similar are {X} and {Y}?",
    "Should I buy {X} or {Y}?", "How are {X} and {Y} related?", "Can {X} and {Y} go together?",
    "What happened between {A} and {B}?", "Which of {X} and {Y} is better for beginners?",
)  # fmt: skip
"""Who or what comes first does not matter."""

ALTERNATIVES = (
    ("Is {A} or {B} coming tomorrow?", "Are {A} and {B} coming tomorrow?"),
    ("Should I invite {A} or {B}?", "Should I invite both {A} and {B}?"),
    ("Should I talk to {A} or {B}?", "Should I talk to {A} and {B}?"),
    ("Can I study {X} or {Y}?", "Can I study {X} and {Y} together?"),
    ("Is {X} or {Y} allowed on the plane?", "Are {X} and {Y} allowed on the plane?"),
    ("Do you like {X} or {Y}?", "Do you like {X} and {Y}?"),
    ("Do you like {X} or {Y} more?", "Do you like both {X} and {Y}?"),
    ("Which is better, {X} or {Y}?", "Are both {X} and {Y} good?"),
    ("Should I spend my holiday in {P} or {Q}?", "Should I spend my holiday in {P} and {Q}?"),
    ("Is it cheaper to live in {P} or {Q}?", "Is it cheap to live in {P} and {Q}?"),
    ("Has {A} been to {P} or {Q}?", "Has {A} been to both {P} and {Q}?"),
    ("Where can I find {X} or {Y}?", "Where can I find {X} together with {Y}?"),
    ("Does {P} or {Q} have more people?", "Do {P} and {Q} have many people?"),
    ("Would you marry {A} or {B}?", "Would {A} marry {B}?"),
    ("Do you need {X} or {Y} to pass?", "Do you need both {X} and {Y} to pass?"),
    ("Must I learn {X} or {Y} for the exam?", "Must I learn {X} and {Y} for the exam?"),
    ("Can we meet in {P} or {Q}?", "Can we meet in {P} and then in {Q}?"),
)  # fmt: skip
"""A or B, and both."""
