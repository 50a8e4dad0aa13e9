"""The console script: ``flowvqtalker <command> ...``; each command is a module of pipeline/cli with ``add_parser``."""

from __future__ import annotations

import argparse
import importlib
import sys

from pipeline import context as house

#: Command -> module with ``add_parser(subparsers)`` that sets ``run`` (called with the parsed options).
COMMANDS = {
    "animate": "pipeline.cli.animate",
    "doctor": "pipeline.cli.doctor",
    "evaluate": "pipeline.cli.evaluate",
    "fex": "pipeline.cli.fex",
    "speech": "pipeline.cli.speech",
}


def main(argv: list[str] | None = None) -> None:
    """Parse and run one command; an expected error prints what is wrong and how to fix it, and exits 2."""
    parser = argparse.ArgumentParser(prog="flowvqtalker", description="Talking faces from one portrait, speech and an emotion label.")
    commands = parser.add_subparsers(dest="command", required=True)
    words = sys.argv[1:] if argv is None else argv
    # Only the command that is called is imported, so that `doctor` runs where what others need is missing.
    chosen = [COMMANDS[words[0]]] if words and words[0] in COMMANDS else list(COMMANDS.values())
    for module in chosen:
        importlib.import_module(module).add_parser(commands)
    args = parser.parse_args(argv)
    house.set_up_logging()
    house.guarded(lambda: args.run(args))


if __name__ == "__main__":
    main()
