"""The command line of the course's office: python -m course handout."""

import argparse
import sys

from course.handout import HandoutError, handout
from course.skeleton import SkeletonError


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m course", description="The course's office.")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("handout", help="make what students receive", description="Make what students receive, in a new folder.")
    command.add_argument("out", metavar="OUT", help="the folder")
    command.set_defaults(run=lambda parsed: handout(parsed.out))
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (HandoutError, SkeletonError) as error:
        sys.exit(f"python -m course: {error}")


if __name__ == "__main__":
    main()
