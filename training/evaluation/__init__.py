"""How good a checkpoint is, measured through the engine that serves it.

data -> `run` -> ROUGE beside baselines (`rouge`, `baselines`), form (`form`), truth (`truth`), attention (`attention`),
long input (`long`) -> `report`: a table on the console, `scores.json`, `scores.md`
"""
