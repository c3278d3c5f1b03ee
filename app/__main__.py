"""`python -m app`: serve, with the settings of the environment. `precis serve` chooses some of them itself."""

import sys

from app.config import let_waiting_threads_sleep, load_settings
from app.engine import forks
from app.errors import ConfigurationError
from app.keys import open_keys
from app.logs import configure_logs


def main(**chosen: str) -> int:
    try:
        settings = load_settings(**chosen)
        open_keys(settings.api_keys, settings.api_keys_file)
    except ConfigurationError as error:
        print(f"precis: {error}", file=sys.stderr)
        return 2
    configure_logs(settings)
    let_waiting_threads_sleep()
    if settings.device in ("auto", "cpu"):
        forks.begin()  # side by side with this process
    # Only now: the model's libraries take seconds to load, a wrong setting is told at once.
    from app.main import create_app
    from app.server import serve

    return serve(create_app(settings), settings)


if __name__ == "__main__":
    sys.exit(main())
