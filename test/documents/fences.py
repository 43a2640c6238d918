"""What the pages show: fenced blocks, and commands in the running text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Dated notes and the log of changes speak of commands that are gone.
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')),
         *sorted((ROOT / 'docs' / 'results').rglob('*.md'))]
COMMANDS = ('evitif', 'make', 'ros2', 'python')      # that are looked for in the running text
_DRAWN = re.compile('[─═│║►▼▲◄]')


@dataclass(frozen=True)
class Block:
    """A fenced block and the line on which its content begins."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command line; `whole` unless it stands in the running text, where what is obvious may be left out."""

    page: str
    line: int
    text: str
    whole: bool = True

    def __str__(self) -> str:
        return f'{self.page}:{self.line}: {self.text}'


def blocks() -> list[Block]:
    """All fenced blocks. One that names no language is a drawing, or else commands."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r'^( *)```(\w*)\n(.*?)^\1```', text, re.MULTILINE | re.DOTALL):
            language = match[2] or ('text' if _DRAWN.search(match[3]) else 'bash')
            line = text.count('\n', 0, match.start(3)) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, language, match[3]))
    return found


def commands() -> list[Command]:
    """All command lines: each of a `bash` block, those after the prompt of a `console` block, and those between backticks."""
    found = []
    for block in blocks():
        if block.language in ('bash', 'console'):
            text = block.text.replace('\\\n', '  ')
            for number, line in enumerate(text.splitlines(), block.line):
                line = line.strip()
                if block.language == 'console' and not line.startswith('$ '):
                    continue
                if (line := line.removeprefix('$ ')) and not line.startswith('#'):
                    found.append(Command(block.page, number, line))
    for page in PAGES:
        text = re.sub(r'^( *)```.*?^\1```', lambda match: '\n' * match[0].count('\n'), page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for match in re.finditer(rf'`((?:{"|".join(COMMANDS)}) [^`\n]+)`', text):
            found.append(Command(str(page.relative_to(ROOT)), text.count('\n', 0, match.start()) + 1, match[1], whole=False))
    return found
