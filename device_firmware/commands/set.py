# Sets actuators. args: {actuator: value, ...}; answers their states.


def run(app, args):
    if not isinstance(args, dict) or not args:
        raise ValueError('the arguments must be an object such as {"pump": true}')
    numbers = {actuator.key: number for number, actuator in enumerate(app.actuators)}
    for key in args:  # all are known before the first moves
        if key not in numbers:
            raise ValueError("no actuator %s" % key)
    states = {}
    for key, value in args.items():
        actuator = app.actuators[numbers[key]]
        try:
            actuator.set(value)
        finally:
            for port in app.ports:
                port.session.report(numbers[key])
        states[key] = actuator.state
    return states
