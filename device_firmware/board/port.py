# A link with its session: the lines that come in and go out.

import gc

from board import clock


class Port:
    def __init__(self, link, session, supervisor):
        self.link = link
        self.session = session
        self._supervisor = supervisor
        self._unsent = None  # what the link has not taken yet

    # Returns when the line is closed for good.
    async def listen(self):
        while True:
            try:
                line = await self.link.read_line()
                if line is None:
                    return
                self.session.on_line(line, clock.now_ms(), self._supervisor.stalled_ms())
            except MemoryError:  # the line is as good as lost on its way
                gc.collect()
            self.pump()

    # Writes what is due, as long as the link takes it without waiting: a host that does not read
    # holds up nobody. Returns after how many ms it wants to be called again, unless something
    # happens before: a line, a record.
    def pump(self):
        link = self.link
        session = self.session
        try:
            while link.has_room():
                if self._unsent is None:
                    self._unsent = session.next_line(clock.now_ms())
                if self._unsent is None:
                    return session.due_ms(clock.now_ms())
                count = link.write(self._unsent)
                self._unsent = self._unsent[count:] if 0 < count < len(self._unsent) else None
                if not count:  # nobody is there: the line is lost, before it grows old here
                    break
        except MemoryError:
            gc.collect()
        session.tick(clock.now_ms())
        return getattr(link, "full_ms", 0)
