"""A small forum for the pages: questions on programming, home and travel, with bodies, tags and answers."""

from __future__ import annotations

from typing import Any

from dupq.index.question_index import QuestionIndex

# id, category, tags, date, answers, title, body
ROWS: tuple[tuple[int, str, str, str, int, str, str], ...] = (
    (101, "programming", "python lists", "2024-01-08", 4, "How do I remove duplicates from a list in Python?",
     "I have a list with about 2,000 names and some occur several times.\n\nI would like to keep the first of each, in "
     "the order of the list. `set(names)` loses the order. Is there a short way?"),
    (102, "programming", "python lists", "2024-03-19", 1, "How can I remove duplicates from a list in Python 3?",
     "My list comes from a CSV file and has doubles. I tried\n\n    unique = set(rows)\n\nbut then the rows are in "
     "another order every time. How do I get each row once and keep the order?"),
    (103, "programming", "java lists", "2024-04-02", 2, "How do I remove duplicates from a list in Java?",
     "I have an `ArrayList<String>` and need each element once, in the order of insertion. Does the standard library "
     "have something for it?"),
    (104, "programming", "python dictionaries", "2023-11-20", 6, "How do I sort a dictionary by value in Python?",
     "The keys are words and the values are counts. I want the ten words with the highest counts."),
    (105, "programming", "python dictionaries", "2024-05-11", 2, "How do I sort a dictionary by key in Python?",
     "I print a configuration and want its keys in alphabetical order."),
    (106, "programming", "python sorting", "2024-06-01", 0, "Sort a Python dictionary by its values",
     "I counted words with a dictionary and want to see the most frequent words first. How do I sort by the count?"),
    (107, "programming", "git", "2023-09-14", 9, "How do I undo the last commit in Git without losing my changes?",
     "I committed to the wrong branch. Nothing is pushed yet. I want to take the commit back but keep my edits in the "
     "working tree."),
    (108, "programming", "git", "2024-02-27", 3, "How do I undo the last commit in Git and discard my changes?",
     "The last commit was an experiment that failed. I want it gone, files included. It has not been pushed."),
    (109, "programming", "git", "2024-07-05", 1, "Undo last Git commit but keep the changes",
     "I was too quick with `git commit`. How do I get back to the state before it, with my files as they are?"),
    (110, "programming", "git", "2023-12-03", 5, "How do I delete a remote branch in Git?",
     "The branch is merged, and I deleted it locally with `git branch -d`. It is still shown on the server."),
    (111, "programming", "git", "2024-08-16", 1, "How do I delete a local branch in Git?",
     "I have 30 old branches on my machine. The server should keep them."),
    (112, "programming", "sql", "2023-10-30", 7, "What is the difference between INNER JOIN and LEFT JOIN in SQL?",
     "I get 120 rows with one and 145 with the other, and do not understand where the 25 rows come from."),
    (113, "programming", "sql", "2024-09-09", 2, "What is the difference between LEFT JOIN and RIGHT JOIN in SQL?",
     "It looks as if I could always swap the two tables. Is there a case where I cannot?"),
    (114, "programming", "javascript", "2024-01-25", 3, "How do I copy an array in JavaScript?",
     "`const b = a` changes `a` when I push to `b`. I need a copy whose elements may stay shared."),
    (115, "programming", "javascript", "2024-10-02", 0, "How can I copy an array in JavaScript?",
     "When I change the copy, the first array changes too:\n\n    const copy = list\n    copy.push(4)\n\nWhat do I "
     "have to write instead?"),
    (116, "programming", "docker", "2024-03-03", 2, "How do I see the logs of a Docker container that has stopped?",
     "The container exits after two seconds. `docker ps` does not list it any more."),
    (117, "programming", "docker", "2024-03-28", 1, "How do I see the logs of a running Docker container?",
     "The service writes to standard output. I want to follow it as with `tail -f`."),
    (118, "programming", "regex", "2024-05-30", 2, "How do I match an e-mail address with a regular expression?",
     "It need not be perfect. It should accept what people type in a form, such as `name+tag@example.org`."),
    (201, "home", "kitchen cleaning", "2023-08-12", 5, "How do I get burnt food off a stainless steel pan?",
     "I let rice burn for about 20 minutes. The bottom is black. Steel wool would scratch it, I suppose?"),
    (202, "home", "kitchen cleaning", "2024-04-17", 2, "How can I clean a burnt stainless steel pan?",
     "There is a black layer of burnt milk in my pan. Soap did nothing. I have vinegar and baking soda at home."),
    (203, "home", "kitchen cleaning", "2024-06-21", 1, "How do I get burnt food off a cast iron pan?",
     "I do not want to lose the seasoning. Is salt enough?"),
    (204, "home", "paint walls", "2023-07-04", 3, "How long must wall paint dry before a second coat?",
     "The can says 4 hours at 20 degrees. My room has 14 degrees at most."),
    (205, "home", "paint walls", "2024-02-11", 1, "How long does wall paint have to dry before the second coat?",
     "I paint a bedroom with water-based paint and would like to finish on one day."),
    (206, "home", "paint doors", "2024-02-15", 0, "How long must door varnish dry before a second coat?",
     "It is a clear varnish with solvent, on oak."),
    (207, "home", "heating", "2023-12-18", 4, "Why is my radiator cold at the bottom and hot at the top?",
     "Only one of six radiators does this. I bled it twice and no air came out."),
    (208, "home", "heating", "2024-01-06", 2, "Why is my radiator hot at the bottom and cold at the top?",
     "It started after the boiler was serviced. The others are warm all over."),
    (209, "home", "heating", "2024-11-12", 0, "Radiator is hot at the top but cold at the bottom",
     "The lower half stays cold even on the highest setting. Bleeding does not help. Could it be sludge?"),
    (210, "home", "washing", "2024-03-12", 3, "Can I wash wool at 30 degrees?",
     "The label is gone. It is a pullover of merino wool."),
    (211, "home", "washing", "2024-03-30", 2, "Can I wash wool at 60 degrees?",
     "There are moths in the wardrobe, and I read that 60 degrees kills their eggs."),
    (212, "home", "plants", "2024-05-02", 4, "How often should I water a rubber plant?",
     "It stands one metre from a window to the east. The lower leaves turn yellow."),
    (213, "home", "plants", "2024-07-22", 1, "How often should I not water a rubber plant in winter?",
     "I heard that it needs a rest from November on."),
    (301, "travel", "visa", "2023-06-15", 3, "Do I need a visa for a layover of 5 hours in Istanbul?",
     "I have an Indian passport and stay in the transit area. My bags are checked through."),
    (302, "travel", "visa", "2024-01-19", 2, "Do I need a visa for a layover of 15 hours in Istanbul?",
     "I would like to leave the airport and see the city. Indian passport."),
    (303, "travel", "visa", "2024-08-30", 1, "Is a visa needed for a 5 hour layover in Istanbul?",
     "I hold an Indian passport, will not leave the airport, and fly on with the same airline."),
    (304, "travel", "trains", "2023-09-01", 2, "What is the cheapest way to go from Paris to London?",
     "Two adults, one bag each, dates are flexible. The train looks expensive."),
    (305, "travel", "trains", "2024-04-24", 1, "What is the cheapest way to go from London to Paris?",
     "I am a student and can travel at night. Bus, train or plane?"),
    (306, "travel", "money", "2024-02-05", 4, "Should I exchange money before I travel to Japan?",
     "I land in Osaka at 22:00 on a Sunday and have only euros."),
    (307, "travel", "money", "2024-09-18", 0, "Should I exchange money before travelling to Japan?",
     "I have a credit card without fees. Do I still need yen in cash for the first day?"),
    (308, "travel", "luggage", "2024-05-15", 2, "Can I take a power bank in hand luggage?",
     "It has 26,800 mAh. The airline's page only says “batteries as allowed”."),
    (309, "travel", "luggage", "2024-10-21", 1, "Can I take a power bank in checked luggage?",
     "My hand luggage is full. The power bank is small, 5,000 mAh."),
)  # fmt: skip


def question(row: tuple[int, str, str, str, int, str, str]) -> dict[str, Any]:
    """The details of a question, as a forum's webhook would store them."""
    id_, category, tags, _, answers, title, body = row
    return {
        "title": title,
        "body": body,
        "tags": tags.split(),
        "category": category,
        "answers": answers,
        "url": f"https://forum.example.org/t/{id_}",
    }


def seed(index: QuestionIndex) -> list[int]:
    """Add the forum to an index and decide it, which fills the review queue; return the ids."""
    index.add(
        [row[0] for row in ROWS],
        [row[5] for row in ROWS],
        created=[f"{row[3]}T09:30:00Z" for row in ROWS],
        reach=[1.0 + row[4] for row in ROWS],
        details=[question(row) for row in ROWS],
    )
    index.decide()
    return [row[0] for row in ROWS]
