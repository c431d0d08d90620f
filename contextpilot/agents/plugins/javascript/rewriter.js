// @ts-check
/**
 * Has conversations rewritten by a local `contextpilot serve`; whatever fails leaves them as they are.
 *
 * @typedef {{type: "text", text: string}} TextPart
 * @typedef {{id: string, type: "function", function: {name: string, arguments: string}}} Call
 * @typedef {{role: string, content: string | TextPart[] | null, tool_calls?: Call[],
 *   tool_call_id?: string}} ChatMessage  as in Chat Completions
 * @typedef {{url?: string, token?: string, timeoutMs?: number}} Settings
 */

const DEFAULT_URL = "http://127.0.0.1:8765";
const TIME_OUT_MS = 2000;
/** So long nobody waits again for a server that did not answer in time. */
const PAUSE_MS = 60_000;
/** An answer has about as many characters as its question, and no more than these beside twice that. */
const MORE_CHARS = 65_536;
const LOOPBACK = ["127.0.0.1", "localhost", "::1"];

export class Rewriter {
  /**
   * @param {Settings} settings  `url` of the server, by default CONTEXTPILOT_INDEX_URL
   * @param {(line: string) => unknown} warn  is told, once, that nothing is rewritten, and why
   */
  constructor(settings, warn) {
    const { env } = process;
    this.url = (settings.url || env.CONTEXTPILOT_INDEX_URL || DEFAULT_URL).replace(/\/+$/, "");
    this.token = settings.token || env.CONTEXTPILOT_INDEX_TOKEN || "";
    this.timeoutMs = settings.timeoutMs || TIME_OUT_MS;
    this.warn = warn;
    this.requests = 0;
    this.rewritten = 0;
    this.savedChars = 0;
    this.failure = "";
    this.pausedUntil = 0;
    keepOffProxies(this.url);
  }

  /**
   * Returns the messages as they may be sent; null where they stay as they are.
   *
   * @param {ChatMessage[]} messages
   * @returns {Promise<ChatMessage[] | null>}
   */
  async rewrite(messages) {
    if (Date.now() < this.pausedUntil) return null;
    this.requests += 1;
    try {
      const told = await this.ask(messages);
      this.failure = "";
      if (told.reason) return null;
      this.rewritten += 1;
      this.savedChars += told.saved_chars;
      return told.messages;
    } catch (error) {
      this.fail(error);
      return null;
    }
  }

  /** @param {ChatMessage[]} messages */
  async ask(messages) {
    /** @type {Record<string, string>} */
    const headers = { "content-type": "application/json" };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    const body = JSON.stringify({ messages });
    const reply = await fetch(`${this.url}/rewrite`, {
      method: "POST",
      headers,
      body,
      redirect: "error", // the conversation goes nowhere else
      signal: AbortSignal.timeout(this.timeoutMs),
    });
    if (!reply.ok) throw new Error(`it answered ${reply.status}`);
    const told = /** @type {any} */ (JSON.parse(await textOf(reply, body.length)));
    if (!Array.isArray(told?.messages) || told.messages.length !== messages.length) {
      throw new Error("it answered something else");
    }
    return told;
  }

  /** @param {unknown} error */
  fail(error) {
    const isLate = error instanceof Error && error.name === "TimeoutError";
    if (isLate) this.pausedUntil = Date.now() + PAUSE_MS;
    const why = isLate ? `no answer in ${this.timeoutMs} ms` : words(error);
    const isNew = !this.failure;
    this.failure = `nothing is rewritten: ${this.url}: ${why} (start contextpilot serve)`;
    if (!isNew) return;
    try {
      Promise.resolve(this.warn(`contextpilot: ${this.failure}`)).catch(() => {});
    } catch {
      // there is nobody to tell
    }
  }

  /** Returns in a line what was done so far. */
  status() {
    if (this.failure) return this.failure;
    const { requests, rewritten, savedChars, url } = this;
    if (!requests) return `no prompt yet; ${url} is asked`;
    return `${rewritten} of ${requests} prompts rewritten by ${url}, ${savedChars} characters not sent`;
  }
}

/**
 * Returns the text of an answer to so many characters; one that is far longer is none.
 *
 * @param {Response} reply
 * @param {number} length
 */
async function textOf(reply, length) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const piece of /** @type {AsyncIterable<Uint8Array>} */ (/** @type {unknown} */ (reply.body ?? []))) {
    text += decoder.decode(piece, { stream: true });
    if (text.length > 2 * length + MORE_CHARS) throw new Error("its answer is too long");
  }
  return text + decoder.decode();
}

/**
 * Lets requests to this machine go there: some runtimes send them to HTTP_PROXY.
 *
 * @param {string} url
 */
function keepOffProxies(url) {
  const host = URL.canParse(url) ? new URL(url).hostname : "";
  if (!LOOPBACK.includes(host)) return;
  for (const name of ["NO_PROXY", "no_proxy"]) {
    const hosts = (process.env[name] || "").split(",").filter(Boolean);
    if (!hosts.includes(host)) process.env[name] = [...hosts, host].join(",");
  }
}

/** @param {any} error */
function words(error) {
  return String(error?.cause?.code ?? error?.code ?? error?.cause?.message ?? error?.message ?? error);
}
