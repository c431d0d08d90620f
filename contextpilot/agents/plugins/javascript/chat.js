// @ts-check
/**
 * A host's conversation in the form of Chat Completions, and what becomes of each text there.
 *
 * @typedef {import("./rewriter.js").ChatMessage} ChatMessage
 * @typedef {(text: string) => void} Write
 */

export class Chat {
  constructor() {
    /** @type {ChatMessage[]} */
    this.messages = [];
    /** @type {{at: number, part: number, text: string, write: Write}[]} */
    this.places = [];
  }

  /**
   * Adds what a user said, in parts.
   *
   * @param {string[]} texts
   * @param {(part: number) => Write} write  gives what puts another text in a part's place
   */
  user(texts, write) {
    const content = texts.map((text) => ({ type: /** @type {const} */ ("text"), text }));
    const at = this.messages.push({ role: "user", content }) - 1;
    texts.forEach((text, part) => this.places.push({ at, part, text, write: write(part) }));
  }

  /** @param {string} text */
  assistant(text) {
    this.messages.push({ role: "assistant", content: text });
  }

  /**
   * Adds a call.
   *
   * @param {string} id
   * @param {string} name
   * @param {unknown} input
   */
  call(id, name, input) {
    const made = { name, arguments: JSON.stringify(input ?? {}) };
    const tool_calls = [{ id, type: /** @type {const} */ ("function"), function: made }];
    this.messages.push({ role: "assistant", content: null, tool_calls });
  }

  /**
   * Adds what a call returned.
   *
   * @param {string} id
   * @param {string} text
   * @param {Write} [write]  left out where the text has to stay
   */
  result(id, text, write) {
    const at = this.messages.push({ role: "tool", tool_call_id: id, content: text }) - 1;
    if (write) this.places.push({ at, part: -1, text, write });
  }

  /**
   * Writes what differs in rewritten messages.
   *
   * @param {ChatMessage[]} messages
   * @returns {boolean}  whether there was anything
   */
  apply(messages) {
    const changes = this.places.flatMap(({ at, part, text, write }) => {
      const content = messages[at].content;
      const told = part < 0 || typeof content === "string" ? content : content?.[part]?.text;
      return typeof told === "string" && told !== text ? [{ write, told }] : [];
    });
    for (const { write, told } of changes) write(told);
    return changes.length > 0;
  }
}
