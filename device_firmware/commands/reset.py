# Starts the board again, once it has delivered what it can.


def run(app, _args):
    app.ending = "reset"
