"""The embedded corpus: what it contains (plan) and how a clip is made (scene, make). See docs/data_card.md."""
