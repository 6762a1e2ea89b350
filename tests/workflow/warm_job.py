"""What the tests of warm jobs run: `python -m tests.workflow.warm_job WHAT [ARGUMENT]`."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def state() -> dict[str, object]:
    """What a job can see of how it was started, but for its process."""
    import __main__

    return {
        "arguments": sys.argv,
        "folder": os.getcwd(),
        "path": sys.path[0],
        "environment": {key: value for key, value in os.environ.items() if not key.startswith("LATTICEBENCH_WARM")},
        "input": sys.stdin.read(),
        "main": __main__.__spec__.name,
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)],
    }


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "state":
        print(json.dumps(state()))
    elif what == "parent":
        print(os.getppid())
    elif what == "exit":
        sys.exit(int(rest[0]))
    elif what == "say":
        sys.exit(rest[0])
    elif what == "raise":
        raise ValueError(rest[0])
    elif what == "kill":
        os.kill(os.getpid(), int(rest[0]))
    elif what == "wait":
        if len(rest) > 1:
            signal.signal(int(rest[1]), lambda number, _: sys.exit(50 + number))
        Path(rest[0]).write_text(str(os.getpid()))
        time.sleep(300)


if __name__ == "__main__":
    main()
