# Starts the board again and leaves it to its REPL, once, without the program and the watchdog.


def run(app, _args):
    app.ending = "repl"
