# Changes how often sensors are read, until the next boot. args: {stream: ms, ...}.

LOW_MS = 1
HIGH_MS = 86400000


def run(app, args):
    if not isinstance(args, dict) or not args:
        raise ValueError('the arguments must be an object such as {"climate": 5000}')
    sensors = {sensor.name: sensor for sensor in app.sensors}
    for name, ms in args.items():  # all are right before the first changes
        if name not in sensors:
            raise ValueError("no stream %s" % name)
        if not isinstance(ms, int) or not LOW_MS <= ms <= HIGH_MS:
            raise ValueError("%s: an interval is from %d to %d ms" % (name, LOW_MS, HIGH_MS))
    for name, ms in args.items():
        sensors[name].interval_ms = ms
    return args
