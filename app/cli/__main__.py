"""`python -m app.cli`: the same as `precis`, where no scripts are installed."""

from app.cli.command import main

if __name__ == "__main__":
    main()
