"""`linkerd-metricd top` on a terminal, by an emulator of one."""

import fcntl
import html
import os
import pty
import select
import struct
import termios
import time

import pyte

from pod import eventually

# The terminal's own colours of these numbers, as the emulator names them, in a dark theme's.
COLORS = {"00cd00": "#3fb950", "cd0000": "#ff7b72", "0000ee": "#58a6ff", "cdcd00": "#d29922"}


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, command, columns=130, lines=26):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color"})
        self.resize(columns, lines)

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def text(self):
        """What is on the screen now."""
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline and select.select([self.fd], [], [], 0.1)[0]:
            try:
                read = os.read(self.fd, 65536)
                self.stream.feed(read)
                self.written = (self.written + read)[-65536:]
            except OSError:
                break
        return "\n".join(self.screen.display)

    def shows(self, is_so, what):
        try:
            eventually(lambda: is_so(self.text()), f"top shows {what}")
        except AssertionError:
            print(self.text())
            raise

    def ended(self):
        """Its status, once it has ended."""
        def waited():
            self.text()
            return os.waitpid(self.pid, os.WNOHANG)
        _, status = eventually(lambda: (w := waited())[0] and w, "top ends")
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def html(self):
        """The screen with its colours."""
        rows = []
        for y in range(self.screen.lines):
            cells = []
            for x in range(self.screen.columns):
                char = self.screen.buffer[y][x]
                color = COLORS.get(char.fg)
                style = f"color:{color};" if color else ""
                style += "font-weight:bold;" if char.bold else ""
                style += "background:#c9d1d9;color:#0d1117;" if char.reverse else ""
                cells.append(f'<span style="{style}">{html.escape(char.data)}</span>')
            rows.append("".join(cells))
        return f'<pre style="background:#0d1117;color:#c9d1d9;font:14px/17px DejaVu Sans Mono,monospace;padding:12px;margin:0;display:inline-block">{chr(10).join(rows)}</pre>'


def keys(pod):
    """What is counted is on the screen; keys and sizes do what they should; q leaves the terminal as it was."""
    terminal = Terminal(pod.inside(pod.bin / "linkerd-metricd", "top", "--window", "1h", "--every", "100ms"))
    try:
        terminal.shows(lambda text: "counting" in text, "that it counts")
        before = pod.sum("linkerd_ebpf_requests_total")
        pod.ask("/", 20)
        pod.ask("/fail", 20)
        assert pod.sum("linkerd_ebpf_requests_total") == before + 40
        row = lambda text, route: next((line for line in text.splitlines() if f" {route} " in line), "")
        terminal.shows(lambda text: "100.00%" in row(text, "/") and " 0.00%" in row(text, "/fail"), "both routes")
        terminal.shows(lambda text: " 50.00%" in row(text, pod.CLIENT), "the peer")
        assert "LATENCY_P99" in terminal.text() and "WRITE_BYTES/SEC" in terminal.text()
        terminal.press("s")
        terminal.shows(lambda text: "sort by failures" in text and text.index("/fail ") < text.index(" / "), "failures first")
        terminal.press("p")
        terminal.shows(lambda text: "paused" in text, "that it is paused")
        terminal.press("p\t")
        terminal.resize(60, 14)
        terminal.shows(lambda text: "by peer" in text and "PROTO" in text and "WRITE_BYTES" not in text, "fewer columns")
        terminal.resize(20, 4)
        terminal.text()
        terminal.resize(130, 26)
        terminal.shows(lambda text: "WRITE_BYTES/SEC" in text, "all columns again")
        pod.metricd.kill()
        terminal.shows(lambda text: "Connection refused" in text, "that nobody answers")
        pod.metricd = pod.serve(pod.pins, 4191)
        terminal.shows(lambda text: "counting" in text, "that it counts again")
        terminal.press("q")
        assert terminal.ended() == 0
        # The other screen again, and the cursor.
        assert b"\x1b[?1049l" in terminal.written and terminal.written.rstrip().endswith(b"\x1b[?25h"), terminal.written[-80:]
    finally:
        terminal.close()


def picture(pod, chromium, folder):
    """For the README."""
    terminal = Terminal(pod.inside(pod.bin / "linkerd-metricd", "top", "--window", "1m"), lines=18)
    try:
        deadline = time.monotonic() + 8
        i = 0
        while time.monotonic() < deadline:
            i += 1
            pod.ask("/", 2)
            pod.ask(f"/users/{i}", source=pod.OTHER_CLIENT)
            if i % 9 == 0:
                pod.ask("/fail")
            terminal.text()
        page = chromium.new_page(viewport={"width": 1100, "height": 400})
        page.set_content(terminal.html())
        page.locator("pre").screenshot(path=folder / "top.png")
    finally:
        terminal.close()
