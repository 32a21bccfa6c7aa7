"""Our errors: one tree, drawn where it is declared; each one says its facts and survives the way to another process."""

import inspect
import pickle
import re

import pytest

from fleet_pipeline.model import errors

FACTS = {str: lambda name: f"the {name}", int: lambda _: 403, object: lambda _: None}


def below(error):
    return [each for child in error.__subclasses__() for each in (child, *below(child))]


CLASSES = [each for each in below(errors.FleetError) if each.__module__ == errors.__name__]


def made(error):
    wanted = inspect.signature(error).parameters.values()
    return error(*(FACTS.get(each.annotation, lambda name: (f"the {name}",))(each.name) for each in wanted))


@pytest.mark.parametrize("error", [each for each in CLASSES if not each.__subclasses__()])
def test_an_error_says_its_facts_in_one_sentence_and_survives_pickling(error):
    one = made(error)
    other = pickle.loads(pickle.dumps(one))
    assert (type(other), other.args, vars(other), str(other)) == (type(one), one.args, vars(one), str(one))
    assert "\n" not in str(one)
    assert all((fact[0] if isinstance(fact, tuple) else str(fact)) in str(one) for fact in one.args if fact is not None)


def test_the_drawing_names_every_error_and_which_may_pass_by_itself():
    drawn = dict(re.findall(r"── (\w+)(.*)", errors.__doc__))
    assert set(drawn) == {each.__name__ for each in CLASSES}
    assert {name for name, rest in drawn.items() if "(retryable)" in rest} == {
        each.__name__ for each in CLASSES if each.retryable
    }


def test_a_list_is_shown_as_the_variable_has_it():
    assert "FLEET_RULE_KEYS is 'gps-data,other':" in str(
        errors.InvalidSetting("FLEET_RULE_KEYS", ("gps-data", "other"), "no")
    )
