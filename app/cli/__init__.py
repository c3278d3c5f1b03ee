"""The command line. `precis --help` is quick: nothing here imports a model's libraries at its top."""
