"""`decalage schema`."""

from protocol import schema
from tests.worker.commands.conftest import Decalage


def test_both_documents_or_one(decalage: Decalage) -> None:
    """Both in one object where none or both are named, else the document itself."""
    both = {"asyncapi": schema.asyncapi(), "json_schema": schema.json_schema()}
    assert decalage("schema").json == both
    assert decalage("schema", "--asyncapi", "--json-schema", "--json").json == both
    assert decalage("schema", "--asyncapi").json == both["asyncapi"]
    assert decalage("schema", "--json-schema").json == both["json_schema"]
