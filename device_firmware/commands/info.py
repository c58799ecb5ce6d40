# How the board is: memory, ring, what is wrong, and what its links have seen.

import gc

from board import clock


def run(app, _args):
    gc.collect()
    free = gc.mem_free()
    ring = app.ring
    errors = {}  # name -> text of all that is wrong now
    for sensor in app.sensors:
        if sensor.error:
            errors[sensor.name] = sensor.error
    if app.problems:
        errors["config"] = "; ".join(app.problems)
    links = []
    for port in app.ports:
        session = port.session
        statistics = {
            "link": port.link.name,
            "sent": session.frames_sent,
            "resent": session.batches_resent,
            "bad": session.bad_lines + session.bad_frames + port.link.too_long,
            "unproven": session.unproven_frames,
            "logs_lost": session.logs_lost,
            "rtt_ms": session.rtt_ms,
        }
        links.append(statistics)
    return {
        "uptime_s": clock.uptime_s(),
        "heap_free": free,
        "heap_used": gc.mem_alloc(),
        "ring_bytes": ring.size,
        "ring_used": ring.used,
        "unacked": ring.count,
        "in_flash": sum(ring.segments.goods) if hasattr(ring, "segments") else 0,
        "lost": ring.lost,
        "epoch": app.epoch,
        "errors": errors,
        "links": links,
    }
