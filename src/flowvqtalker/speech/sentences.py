"""Sentences of our own: plain statements without feeling in their words, rich in lip closures, rounded and spread vowels.

They are split by set: a test sentence is never heard in training or validation. The order is part of the corpus: add at the end.
"""

from __future__ import annotations

TRAIN: tuple[str, ...] = (
    "The brown bag moved past five wet shoes.",
    "We put the paper map on a wooden shelf.",
    "My brother keeps a blue boat by the pier.",
    "Fresh bread and butter fill the front window.",
    "She will move the piano before the week is over.",
    "Both of them walked along the river path.",
    "The office opens at half past seven.",
    "You may borrow my umbrella for the evening.",
    "A small van stopped beside the farm gate.",
    "Please bring me four cups and a spoon.",
    "The valley lies between two low mountains.",
    "They painted every room a pale yellow.",
    "Our bus leaves from the opposite platform.",
    "He found a key under the garden wall.",
    "The choir meets on Wednesday at noon.",
    "Put the plums and pears in the basket.",
    "I usually buy my vegetables from a farmer.",
    "The woman in the picture wears a purple scarf.",
    "Some birds fly home over the open sea.",
    "There is a new museum behind the bank.",
    "We mapped the forest with a simple compass.",
    "Peter showed us how to fold the cloth.",
    "The lamp above my bed is very bright.",
    "Five boxes of books arrived by post.",
    "The baker opens his shop before six.",
    "A fox ran through the empty meadow.",
    "The train moves slowly up the hill.",
    "We mixed flour, water, and a bit of milk.",
    "Her office overlooks the old market.",
    "The map shows a bridge and a mill.",
    "They built the barn from maple and pine.",
    "You will find the form on page twelve.",
    "The pump by the well works again.",
    "My uncle fixed the roof of the shed.",
    "We watched the boats from the warm beach.",
    "The phone book is beneath the blue folder.",
    "The team practices every other morning.",
    "Warm soup stood in a bowl on the table.",
    "A green leaf fell beside my foot.",
    "The museum moved to a bigger building.",
    "I left the jam and the beans in the kitchen.",
    "The tall ship sailed by the lighthouse.",
)

VAL: tuple[str, ...] = (
    "The postman walks by our house at eight.",
    "A wooden bench stands in front of the chapel.",
    "We keep pens and paper in the bottom drawer.",
    "The movie begins after a brief pause.",
    "Two white swans swim near the far bank.",
    "My family has a farm beyond the village.",
    "She picked a basket of ripe apples.",
    "The ferry should be here before five.",
)

TEST: tuple[str, ...] = (
    "The water in the bay moves with the moon.",
    "Bob saved a piece of apple pie for us.",
    "The old map was found above the fireplace.",
    "We will visit a few shops before we meet.",
    "A pair of brown boots stood by the door.",
    "Every evening he feeds the fish in the pool.",
    "The bus to the beach passes my home.",
    "You should leave the blue book with Fiona.",
    "Somebody moved the chairs to the upper room.",
    "The farmer sows wheat in the broad field.",
    "Please show them both where the river bends.",
    "Maple leaves float over the small pond.",
    "My wife bought a vase and five plates.",
    "The poem fills half a page of the paper.",
)

#: What an identity says in its enrolment clip: one short neutral sentence, the same for everyone, never scored.
ENROL: tuple[str, ...] = ("My name is on the paper.",)

SENTENCES: dict[str, tuple[str, ...]] = {"train": TRAIN, "val": VAL, "test": TEST, "enrol": ENROL}
