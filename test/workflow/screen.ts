/** What a terminal of so many lines and columns shows of a program's output; knows the codes that programs redraw with, and no others. */
export class Screen {
  readonly rows: number;
  readonly columns: number;
  /** How often the top line was pushed out. */
  scrolled = 0;
  /** Characters written past the last column, which a terminal wraps. */
  overflowed = 0;
  private lines: string[][];
  private row = 0;
  private column = 0;
  private rest = '';

  constructor(rows: number, columns: number) {
    this.rows = rows;
    this.columns = columns;
    this.lines = Array.from({ length: rows }, () => []);
  }

  get text(): string {
    return this.lines
      .map((line) => Array.from(line, (cell: string | undefined) => cell ?? ' ').join(''))
      .map((line) => line.trimEnd())
      .join('\n')
      .trimEnd();
  }

  write(output: string): void {
    const text = this.rest + output;
    // A code may have been cut in two.
    const cut = /\u001b(?:\[[0-9;?]*)?$/.exec(text);
    this.rest = cut?.[0] ?? '';
    for (const [token] of text.slice(0, text.length - this.rest.length).matchAll(/\u001b\[[0-9;?]*[A-Za-z]|[^]/gu)) {
      if (token.startsWith('\u001b')) this.control(token);
      else this.put(token);
    }
  }

  private put(character: string): void {
    if (character === '\r') this.column = 0;
    else if (character === '\n') this.feed();
    else {
      if (this.column >= this.columns) {
        this.overflowed += 1;
        this.column = 0;
        this.feed();
      }
      const line = this.lines[this.row] ?? [];
      line[this.column] = character;
      this.column += 1;
    }
  }

  private feed(): void {
    if (this.row < this.rows - 1) {
      this.row += 1;
      return;
    }
    this.lines = [...this.lines.slice(1), []];
    this.scrolled += 1;
  }

  private control(code: string): void {
    const parameters = code.slice(2, -1);
    const count = Number(parameters === '' ? 1 : parameters);
    const line = this.lines[this.row] ?? [];
    switch (code.at(-1)) {
      case 'A':
        this.row = Math.max(0, this.row - count);
        break;
      case 'B':
        this.row = Math.min(this.rows - 1, this.row + count);
        break;
      case 'G':
        this.column = count - 1;
        break;
      case 'K':
        if (parameters === '2') line.length = 0;
        else line.length = Math.min(line.length, this.column);
        break;
      case 'J':
        line.length = Math.min(line.length, this.column);
        for (let below = this.row + 1; below < this.rows; below += 1) this.lines[below] = [];
        break;
      // Colours; the cursor shown and hidden; output held together.
      case 'm':
      case 'h':
      case 'l':
        break;
      default:
        throw new Error(`this screen does not know ${JSON.stringify(code)}`);
    }
  }
}
