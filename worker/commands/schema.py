"""`decalage schema`: the events as JSON Schema, and the streams as an AsyncAPI document."""

import argparse
from typing import Final

from worker.commands.output import print_json

HELP: Final = "print the events as JSON Schema and the streams as AsyncAPI"
EXAMPLES: Final = """\
Example:
  decalage schema --asyncapi > decalage.asyncapi.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `decalage schema`."""
    parser.add_argument("--asyncapi", action="store_true", help="print only the AsyncAPI document")
    parser.add_argument("--json-schema", action="store_true", help="print only the JSON Schema of all events")
    parser.add_argument("--json", action="store_true", help="changes nothing: the output is JSON anyway")


def run(args: argparse.Namespace) -> int:
    """Print one document as it is, or both as `{"asyncapi": …, "json_schema": …}`; return 0."""
    from protocol import schema

    if args.asyncapi == args.json_schema:
        print_json({"asyncapi": schema.asyncapi(), "json_schema": schema.json_schema()})
    else:
        print_json(schema.asyncapi() if args.asyncapi else schema.json_schema())
    return 0
