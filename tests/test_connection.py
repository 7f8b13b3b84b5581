"What an endpoint's answer amounts to does not depend on how its bytes are cut on their way."

import asyncio
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from agentlightning_nb.engines.http import Connection, Pool

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PARTS = [b"x", b"\r\n", b"3\r\nabc\r\n", b"y" * 11 + b"\r\n" + b"z" * 14, b"0\r\n\r\n"]


def framed(part, size="%x", extension=""):
    return (size % len(part) + extension).encode() + b"\r\n" + part + b"\r\n"


def poured(pieces):
    "The body of an answer that comes in pieces, the first of which is its head."

    async def run():
        connection = Connection(Pool(urlsplit("http://127.0.0.1:1")))
        connection.connection_made(
            SimpleNamespace(write=lambda _: None, pause_reading=lambda: None, abort=lambda: None)
        )
        asking = asyncio.ensure_future(connection.ask(b"", 30.0))
        await asyncio.sleep(0)
        connection.data_received(pieces[0])
        await asking
        body = []
        pouring = asyncio.ensure_future(connection.pour(lambda part: body.append(part) or True))
        await asyncio.sleep(0)
        for piece in pieces[1:]:
            connection.data_received(piece)
        async with asyncio.timeout(30):
            await pouring
        return b"".join(body), connection.kept

    return asyncio.run(run())


def test_cut_anywhere_it_is_the_same():
    said = b"".join(framed(part) for part in PARTS) + b"0\r\n\r\n"
    for i in range(1, len(said)):
        for j in range(i, len(said)):
            assert poured([p for p in (HEAD, said[:i], said[i:j], said[j:]) if p]) == (b"".join(PARTS), True), (i, j)


@pytest.mark.parametrize("options", [{}, {"size": "%X"}, {"size": "00%x"}, {"extension": ";a=b"}], ids=str)
def test_chunk_by_chunk_it_is_the_same_in_whatever_words_their_sizes_stand(options):
    pieces = [framed(part, **options) for part in PARTS]
    assert poured([HEAD, *pieces, b"0\r\n\r\n"]) == (b"".join(PARTS), True)
    assert poured([HEAD, *pieces, b"0\r\nsaid-at: last\r\n\r\n"]) == (b"".join(PARTS), True)


@pytest.mark.parametrize("wrong", [b"+1\r\nx\r\n", b"-1\r\n\r\n", b"zz\r\nx\r\n", b"2\r\nx\r\n\r\n"])
def test_what_is_no_chunk_ends_the_call(wrong):
    with pytest.raises(ConnectionError, match="no HTTP"):
        poured([HEAD, framed(b"fine"), wrong, b"0\r\n\r\n"])


def gathered(others, script):
    "What a connection's transport is told while parts come, with so many calls beside its own; `script` says what happens."

    async def run():
        told, room, pool = [], [True], Pool(urlsplit("http://127.0.0.1:1"))
        pool.all.update(range(others))
        connection = Connection(pool)
        names = ("write", "pause_reading", "resume_reading", "abort")
        connection.connection_made(SimpleNamespace(**{n: lambda *_, n=n: told.append(n) for n in names}))
        asking = asyncio.ensure_future(connection.ask(b"", 30.0))
        await asyncio.sleep(0)
        connection.data_received(HEAD)
        await asking
        pouring = asyncio.ensure_future(connection.pour(lambda part: room[0]))
        await asyncio.sleep(0.01)
        told.clear()
        await script(connection, room, pouring)
        pouring.cancel()
        return [one.removesuffix("_reading") for one in told]

    return asyncio.run(run())


async def burst(connection, *_):
    for _ in range(4):
        connection.data_received(framed(b"x"))
    await asyncio.sleep(0.05)


def test_a_burst_is_gathered_where_others_are_under_way():
    assert gathered(1, burst) == ["pause", "resume"]
    assert gathered(0, burst) == []


def test_parts_that_come_one_by_one_are_not():
    async def slowly(connection, *_):
        for _ in range(6):
            connection.data_received(framed(b"x"))
            await asyncio.sleep(0.005)

    assert gathered(1, slowly) == []


def test_a_caller_without_room_is_waited_for_after_a_burst_too():
    async def full(connection, room, _):
        room[0] = False
        await burst(connection)  # the moment is over, and there is no room yet
        connection.resume()

    assert gathered(1, full) == ["pause", "pause", "resume"]


def test_a_burst_that_ends_its_answer_leaves_a_connection_that_reads():
    async def last(connection, _, pouring):
        for part in (*[framed(b"x")] * 3, b"0\r\n\r\n"):
            connection.data_received(part)
        await pouring
        connection.release()
        assert connection in connection.pool.idle

    assert gathered(1, last) == ["pause", "resume"]
