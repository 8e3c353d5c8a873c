"""Session options and the patch that changes them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs

from protocol.options import Limits, Session, SessionPatch, apply_patch
from protocol.policies import WaitK

law = settings(deadline=None)


def test_a_patch_has_the_fields_of_a_session() -> None:
    """Whatever can be set at creation can be changed later."""
    assert SessionPatch.__struct_fields__ == Session.__struct_fields__


@law
@given(session=st.from_type(Session))
def test_an_empty_patch_changes_nothing(session: Session) -> None:
    """apply_patch(s, {}) == s."""
    assert apply_patch(session, SessionPatch()) == session


@law
@given(session=st.from_type(Session), patch=st.from_type(SessionPatch))
def test_a_patch_sets_its_fields_and_no_others(session: Session, patch: SessionPatch) -> None:
    """Each field afterwards is the patch's where it has one, else the session's."""
    patched = apply_patch(session, patch)
    for name in Session.__struct_fields__:
        wanted = getattr(patch, name)
        assert getattr(patched, name) == (getattr(session, name) if wanted is UNSET else wanted)


@law
@given(session=st.from_type(Session), patch=st.from_type(SessionPatch))
def test_a_patch_applied_twice_is_applied_once(session: Session, patch: SessionPatch) -> None:
    """A repeated update does no harm."""
    once = apply_patch(session, patch)
    assert apply_patch(once, patch) == once


@law
@given(old=st.from_type(Session), new=st.from_type(Session))
def test_a_full_patch_replaces_the_session(old: Session, new: Session) -> None:
    """A patch made of all fields of a session gives that session."""
    assert apply_patch(old, SessionPatch(**structs.asdict(new))) == new


def test_nested_options_are_replaced_whole() -> None:
    """A patch of `limits` does not keep the old limits' other fields."""
    session = Session(limits=Limits(max_new_words=5, max_tokens_per_word=7))
    assert apply_patch(session, SessionPatch(limits=Limits(max_new_words=6))).limits == Limits(max_new_words=6)


def test_null_clears_the_prompt_and_absence_keeps_it() -> None:
    """`prompt: null` and no `prompt` mean different things."""
    session = Session(prompt="Be brief.")
    assert apply_patch(session, SessionPatch(prompt=None)).prompt is None
    assert apply_patch(session, SessionPatch(policy=WaitK(k=1))).prompt == "Be brief."


def test_sessions_do_not_share_their_metadata() -> None:
    """The default metadata of one session is not that of the next."""
    assert Session().metadata is not Session().metadata
