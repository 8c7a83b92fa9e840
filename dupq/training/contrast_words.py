"""The words and templates from which contrast pairs are made, in two halves: one to train on, one held out."""

from __future__ import annotations

PLACES = (
    ("India", "China", "France", "Brazil", "Canada", "Mexico", "Japan", "Egypt", "Norway", "Kenya", "London", "Paris",
     "Chicago", "Delhi", "Berlin", "Tokyo", "California", "Texas", "Africa", "Toronto", "Pakistan", "Australia"),
    ("Germany", "Spain", "Italy", "Russia", "Sweden", "Peru", "Turkey", "Vietnam", "Nigeria", "Ireland", "Mumbai",
     "Bangalore", "Boston", "Madrid", "Rome", "Seoul", "Florida", "Ohio", "Europe", "Sydney", "Singapore", "Israel"),
)  # fmt: skip

NAMES = (
    ("Anna", "Peter", "Maria", "David", "Ravi", "Linda", "Omar", "Susan", "Kevin", "Julia", "Ahmed", "Laura",
     "Priya", "Frank", "Emma", "Carlos"),
    ("Alice", "Robert", "Nina", "George", "Sanjay", "Helen", "Yusuf", "Karen", "Brian", "Sofia", "Hassan", "Clara",
     "Deepa", "Walter", "Olivia", "Diego"),
)  # fmt: skip

THINGS = (
    ("Python", "tea", "chess", "a laptop", "German", "yoga", "cotton", "an iPhone", "maths", "gold", "dogs", "rice",
     "a scooter", "the piano", "physics", "Twitter"),
    ("Java", "coffee", "poker", "a tablet", "Spanish", "boxing", "wool", "a Kindle", "history", "silver", "cats",
     "pasta", "a bicycle", "the violin", "biology", "Instagram"),
)  # fmt: skip

OPPOSITES = (
    ("before", "after"), ("best", "worst"), ("buy", "sell"), ("gain", "lose"), ("increase", "decrease"),
    ("start", "stop"), ("cheap", "expensive"), ("advantages", "disadvantages"), ("rich", "poor"), ("hot", "cold"),
    ("more", "less"), ("highest", "lowest"), ("easiest", "hardest"), ("open", "close"), ("win", "lose"),
    ("fast", "slowly"), ("upload", "download"), ("north", "south"), ("love", "hate"), ("install", "uninstall"),
    ("most", "least"), ("largest", "smallest"), ("benefits", "drawbacks"), ("borrow", "lend"), ("raise", "lower"),
    ("enable", "disable"), ("old", "young"), ("strong", "weak"), ("oldest", "youngest"), ("legal", "illegal"),
    ("join", "leave"), ("good", "bad"), ("longest", "shortest"), ("add", "remove"), ("east", "west"),
    ("encrypt", "decrypt"), ("always", "never"), ("first", "last"), ("top", "bottom"), ("safe", "dangerous"),
)  # fmt: skip

GENDERED = (
    ("he", "she"), ("man", "woman"), ("boyfriend", "girlfriend"), ("husband", "wife"), ("men", "women"),
    ("boys", "girls"), ("boy", "girl"), ("father", "mother"), ("brother", "sister"), ("guy", "girl"),
    ("male", "female"), ("son", "daughter"), ("guys", "girls"), ("males", "females"), ("uncle", "aunt"),
)  # fmt: skip

SYNONYMS = (
    ("How do I", "How can I"), ("purchase", "buy"), ("movies", "films"), ("begin", "start"), ("big", "large"),
    ("What is the best way to", "How can I best"), ("mobile phone", "cell phone"), ("kids", "children"),
    ("earn money", "make money"), ("quickly", "fast"), ("football", "soccer"), ("near", "close to"),
    ("How should I", "How do I"), ("movie", "film"), ("get rid of", "remove"), ("difficult", "hard"),
    ("ways", "methods"), ("smart", "clever"), ("maths", "mathematics"), ("photo", "picture"), ("lawyer", "attorney"),
    ("doctor", "physician"),
    ("happen", "occur"), ("photos", "pictures"), ("tips for", "advice on"), ("error", "mistake"),
    ("What are some", "What are a few"), ("require", "need"), ("huge", "enormous"), ("sick", "ill"),
)  # fmt: skip

CONTRACTIONS = (
    ("What is", "What's"), ("do not", "don't"), ("I am", "I'm"), ("cannot", "can't"), ("it is", "it's"),
    ("Who is", "Who's"), ("does not", "doesn't"), ("I have", "I've"), ("is not", "isn't"), ("they are", "they're"),
    ("Where is", "Where's"), ("should not", "shouldn't"), ("you are", "you're"), ("are not", "aren't"),
    ("How is", "How's"), ("will not", "won't"), ("did not", "didn't"), ("that is", "that's"),
)  # fmt: skip

ACTIONS = (
    (("beat", "beaten"), ("hire", "hired"), ("sue", "sued"), ("invite", "invited"), ("teach", "taught"),
     ("call", "called"), ("follow", "followed")),
    (("defeat", "defeated"), ("promote", "promoted"), ("accuse", "accused"), ("rescue", "rescued"),
     ("train", "trained"), ("text", "texted"), ("blame", "blamed")),
)  # fmt: skip

COMPARED = (
    ("taller", "faster", "richer", "kinder", "more popular"),
    ("older", "stronger", "smarter", "braver", "busier"),
)

DIRECTED = (
    ("How do I travel from {P} to {Q}?", "How long is the flight from {P} to {Q}?",
     "How can I move from {P} to {Q} for work?", "Why did {A} lie to {B}?", "What did {A} give to {B}?",
     "How do I switch from {X} to {Y}?", "Why does {A} like {B}?", "Should I try {X} before {Y}?",
     "How can I exchange {X} for {Y}?", "Why is {A} {c} than {B}?", "Can {A} vote for {B}?"),
    ("What does a train ticket from {P} to {Q} cost?", "How do I ship a parcel from {P} to {Q}?",
     "How many people moved from {P} to {Q}?", "Why did {A} apologise to {B}?", "What did {A} sell to {B}?",
     "Is it hard to go from {X} to {Y}?", "Why does {A} distrust {B}?", "Is it wise to learn about {X} before {Y}?",
     "Can I replace {X} with {Y}?", "How much {c} is {A} than {B}?", "Would {A} work for {B}?"),
)  # fmt: skip
"""Who or what comes first matters."""

UNDIRECTED = (
    ("What is the difference between {X} and {Y}?", "Which is better, {X} or {Y}?", "How far apart are {P} and {Q}?",
     "Are {A} and {B} friends?", "Do {X} and {Y} have anything in common?", "Should I choose {X} or {Y}?",
     "When did {A} and {B} meet?"),
    ("How do {X} and {Y} differ?", "Is {X} or {Y} more useful?", "What is the distance between {P} and {Q}?",
     "Are {A} and {B} related?", "What do {X} and {Y} share?", "Would you rather have {X} or {Y}?",
     "Why did {A} and {B} split up?"),
)  # fmt: skip
"""Who or what comes first does not matter."""

ALTERNATIVES = (
    (("Should I learn about {X} or {Y}?", "Should I learn about {X} and {Y}?"),
     ("Is it better to visit {P} or {Q}?", "Is it good to visit both {P} and {Q}?"),
     ("Will {A} or {B} come to the party?", "Will {A} and {B} come to the party?"),
     ("Who can help me with {X} or {Y}?", "Who can help me with both {X} and {Y}?")),
    (("Do people prefer {X} or {Y}?", "Do people like both {X} and {Y}?"),
     ("Should we live in {P} or {Q}?", "Should we live in {P} and {Q}?"),
     ("Did {A} or {B} write the report?", "Did {A} and {B} write the report?"),
     ("Can I bring {X} or {Y}?", "Can I bring {X} and {Y}?")),
)  # fmt: skip
