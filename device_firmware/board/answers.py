# Commands of the gateway. One is done at most once, as it may be asked again.

from board.frame import to_json
from board.parts import borrow, forget, load

try:
    from micropython import const
except ImportError:  # on CPython, where constants cost nothing

    def const(value):
        return value


_RSP = const(0x21)
_QUEUE_MAX = const(8)
_ANSWERS_MAX = const(8)
_ANSWER_BYTES = const(900)
_KEPT = const(2)  # answers, whole; the gateway asks for one after the other
_KEPT_BYTES = const(64)  # of an answer that is older


# CMD
def command(session, mid, request, waited_ms):
    body = answer(session.answers, session.commands, request, waited_ms)
    if len(session.queue) >= _QUEUE_MAX:
        session.queue.pop(0)
    borrow("saying").answer(session, _RSP, mid, body)


# Returns the body of the RSP. answers: (cid, body) of the last commands; commands: as Session's.
def answer(answers, commands, request, waited_ms):
    cid = request["cid"]
    if not isinstance(cid, str):
        raise ValueError("cid")
    for known, kept in answers:
        if known == cid:
            return kept
    # Noted before it is done: it stays done, should there be no memory for the answer.
    if len(answers) >= _ANSWERS_MAX:
        answers.pop(0)
    if len(answers) >= _KEPT:
        known, kept = answers[-_KEPT]
        if len(kept) > _KEPT_BYTES:
            kept = to_json({"cid": known, "err": "done; the answer is forgotten"})
            answers[-_KEPT] = known, kept
    answers.append((cid, to_json({"cid": cid, "err": "no memory for the answer"})))
    body = _execute(commands, cid, request, waited_ms)
    answers[-1] = (cid, body)
    return body


# A command, or None. An app's are files; as they are seldom, each is loaded when asked for only.
def _find(commands, name):
    if isinstance(commands, dict):
        return commands.get(name)
    if not name or name.strip("abcdefghijklmnopqrstuvwxyz_"):
        return None
    try:
        command = load("commands", name)
    except ImportError:
        return None
    forget("commands", name)
    return lambda args: command.run(commands, args)


def _execute(commands, cid, request, waited_ms):
    try:
        ttl_ms = request.get("ttl_ms")
        if ttl_ms is not None and waited_ms >= ttl_ms:
            raise ValueError("expired")
        command = _find(commands, request["c"])
        if command is None:
            raise ValueError("unknown command")
        body = to_json({"cid": cid, "ok": command(request.get("a"))})
        if len(body) > _ANSWER_BYTES:
            raise ValueError("done, but the result is too long to send")
    except ValueError as error:
        body = to_json({"cid": cid, "err": str(error)})
    except Exception as error:  # a bug in a command is the caller's answer, not our end
        body = to_json({"cid": cid, "err": repr(error)})
    return body
