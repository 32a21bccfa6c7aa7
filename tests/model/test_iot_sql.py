"""AWS IoT SQL: what its outline tells to be wrong is refused before any call, and nothing that may be right."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_pipeline.model.errors import InvalidSetting
from fleet_pipeline.model.iot_sql import check, topic_filter
from fleet_pipeline.model.rule_table import RuleTable

RIGHT = [
    "SELECT * FROM 'a/b'",
    "select * from 'a/b' where x > 1",
    "SELECT *",
    "SELECT * FROM'a/b'",
    "SELECT * FROM 'vehicles/+/status' WHERE speed_kmh > 130;",
    "SELECT color AS rgb FROM 'topic/subtopic' WHERE temperature > 50 AND color <> 'red'",
    "SELECT *, 15 AS speed FROM 'topic/subtopic'",
    "SELECT VALUE color FROM 't'",
    "SELECT VALUE * FROM 't'",
    "SELECT color.red AS red_value, a.value, b.and, c.from FROM 't'",
    "SELECT encode(*, 'base64') AS p, timestamp() AS t, topic() AS k, clientid() AS c, newuuid() AS u FROM 't'",
    "SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 't' WHERE decode(encode(*, 'base64'), 'base64') > 50",
    "SELECT (SELECT VALUE n FROM e) as sensors FROM 'my/topic'",
    "SELECT (SELECT v FROM e WHERE n = 'temperature') as temperature FROM 'my/topic'",
    "SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v as temperature FROM 'topic'",
    "SELECT * FROM 't' WHERE EXISTS (SELECT * FROM a WHERE x < -1)",
    "SELECT * FROM 't' WHERE 3 IN (SELECT VALUE v FROM arr) OR 4 IN [1, 2, 4] OR NOT b",
    "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution' ELSE 'stop' END AS what FROM 't'",
    "SELECT * FROM 't' WHERE CASE WHEN a > 1 THEN b ELSE c END = 'x' AND (d + 1) * 2 % 3 >= -4 - -5",
    "SELECT {'a': 1, 'b': [1, 2, {'c': x.y}]} AS made, [] AS none, {} AS nothing FROM 't'",
    'SELECT {"a": 1} AS made, transform("enrichArray", *, xs) AS ys FROM \'t\'',
    "SELECT 'it''s FROM ''here'' WHERE (' AS said FROM 't/it'",
    r"SELECT regexp_matches(x, '\\d+') AS m FROM 't'",
    r"SELECT 'a\'b' AS m FROM 't'",
    "SELECT aws_lambda('arn:aws:lambda:us-east-1:1:function:f', {\"p\": x}).out.value AS y FROM 't'",
    "SELECT get_thing_shadow(topic(2), 'arn:aws:iam::1:role/r').state.reported.on AS was FROM 'v/+'",
    "SET @a = x * 2, @b = concat(@a, 'y') SELECT @a AS a, @b AS b FROM 't' WHERE @a > 3",
    "SELECT end, value, set, \"odd name\" AS o, a b FROM 't'",
    "SELECT ${topic(2)} AS t, cast(x AS Int) FROM 't' WHERE `a b` = 1.5e-3 AND y < 1.",
    "SELECT\n  *\nFROM 't'\nWHERE\n  a = 1\n",
    "SELECT x.y[0].z[1] FROM 't' AS m WHERE isUndefined(x) = false",
    'SELECT * FROM "a/b"',
]  # fmt: skip


@pytest.mark.parametrize("sql", RIGHT)
def test_what_aws_iot_may_take_passes(sql):
    check(sql)
    source = topic_filter(sql)
    assert RuleTable(key="k", sql=sql).filter == source
    assert bool(source) == ("FROM '" in sql.upper() or "FROM'" in sql.upper() or 'FROM "' in sql.upper())


WRONG = {
    "FROM misspelt": "SELECT * FORM 'vehicles/+/status'",
    "FROM misspelt after a field": "SELECT speed FORM 'v/+'",
    "FROM misspelt after a call": "SELECT topic(2) FORM 'v/+' WHERE x > 1",
    "FROM misspelt after a name": "SELECT a AS b FORM 'v/+'",
    "SELECT misspelt": "SELCT * FROM 'v/+'",
    "WHERE misspelt": "SELECT * FROM 'v/+' WERE speed > 3",
    "a text that does not end": "SELECT * FROM 'v/+",
    "a text that does not end in WHERE": "SELECT * FROM 'v/+' WHERE a = 'x",
    "a double quote that does not end": "SELECT \"a FROM 'v/+'",
    "a bracket too few": "SELECT encode(*, 'base64' AS p FROM 'v/+'",
    "a bracket too many": "SELECT a) FROM 'v/+'",
    "brackets that cross": "SELECT get([a, 0)] FROM 'v/+'",
    "two comparisons": "SELECT * FROM 'v/+' WHERE speed >> 3",
    "a comparison the wrong way round": "SELECT * FROM 'v/+' WHERE speed => 3",
    "nothing behind a comparison": "SELECT * FROM 'v/+' WHERE speed >",
    "nothing before a comparison": "SELECT * FROM 'v/+' WHERE > 3",
    "nothing behind AND": "SELECT * FROM 'v/+' WHERE a = 1 AND",
    "two ANDs": "SELECT * FROM 'v/+' WHERE a = 1 AND AND b = 2",
    "no operator": "SELECT * FROM 'v/+' WHERE speed 3",
    "nothing selected": "SELECT FROM 'v/+'",
    "nothing behind WHERE": "SELECT * FROM 'v/+' WHERE",
    "a comma too many": "SELECT a, FROM 'v/+'",
    "a comma too early": "SELECT , a FROM 'v/+'",
    "WHERE before FROM": "SELECT * WHERE a = 1 FROM 'v/+'",
    "FROM twice": "SELECT * FROM 'v/+' FROM 'w/+'",
    "a topic without quotes": "SELECT * FROM vehicles",
    "GROUP BY": "SELECT * FROM 'v/+' GROUP BY a",
    "LIMIT": "SELECT * FROM 'v/+' WHERE a > 1 LIMIT 5",
    "wrong within brackets": "SELECT * FROM 'v/+' WHERE (a > ) = true",
    "wrong in a nested query": "SELECT (SELECT v FROM e WHERE n = = 1) FROM 'v/+'",
    "a comment": "SELECT * /* all */ FROM 'v/+'",
    "no SQL": "vehicles/+/status",
    "nothing set": "SET SELECT * FROM 'v/+'",
}


@pytest.mark.parametrize("sql", WRONG.values(), ids=WRONG)
def test_what_the_outline_tells_to_be_wrong_is_refused_as_the_settings_are_read(sql):
    with pytest.raises(InvalidSetting, match="setting sql is"):
        RuleTable(key="k", sql=sql)


@pytest.mark.parametrize(
    ("sql", "hint"),
    [(WRONG["FROM misspelt"], "did you mean FROM[?]"), (WRONG["WHERE misspelt"], "did you mean WHERE[?]")],
)
def test_a_misspelt_clause_is_named(sql, hint):
    with pytest.raises(ValueError, match=hint):
        check(sql)


@given(st.text(alphabet="SELCTFROMWHA *'\"()[]{},.<>=+-@;:/ab1 \\\n", max_size=60))
def test_whatever_stands_there_is_taken_or_refused_in_words(text):
    with suppress(ValueError):
        check(text)
    assert isinstance(topic_filter(text), str)


@given(st.text(min_size=1, max_size=30))
def test_what_stands_in_quotes_is_never_read_as_sql(text):
    quoted = text.replace("'", "''").replace("\\", "")
    sql = f"SELECT a FROM 'v/+' WHERE b = '{quoted}'"
    check(sql)
    assert topic_filter(sql) == "v/+"
