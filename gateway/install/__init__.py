"""The gateway as a service of this machine: installed, upgraded and removed.

What is to be done is planned first, as values (`plan`, pure), from what is there (`seen`); then it
is printed or done (`actions`, `execute`).
"""
