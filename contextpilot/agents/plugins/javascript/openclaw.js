// @ts-check
/**
 * ContextPilot in OpenClaw: a context engine that rewrites a session's history, and stores nothing.
 *
 * OpenClaw asks for the history before the current turn only. What it sent during a turn the model's
 * cache may still hold, so it is rewritten once the session paused for longer than a cache lasts.
 *
 * @typedef {import("openclaw/plugin-sdk/core").OpenClawPluginApi} Api
 * @typedef {Parameters<Parameters<Api["registerContextEngine"]>[1]>[0]} EngineContext
 * @typedef {Awaited<ReturnType<Parameters<Api["registerContextEngine"]>[1]>>} Engine
 * @typedef {Parameters<Engine["assemble"]>[0]["messages"]} Messages
 * @typedef {Messages[number]} Message
 */

import { delegateCompactionToRuntime } from "openclaw/plugin-sdk/core";

import { Chat } from "./chat.js";
import { Rewriter } from "./rewriter.js";

const ID = "contextpilot";
const COLD_AFTER_MINUTES = 60;
const MINUTE_MS = 60_000;

export default {
  id: ID,
  name: "ContextPilot",
  description: "Replaces repeated readings in a session's history by references",

  /** @param {Api} api */
  register(api) {
    const config = /** @type {any} */ (api.pluginConfig ?? {});
    const rewriter = new Rewriter(config, (line) => api.logger.warn(line));
    const coldAfterMs = (config.coldAfterMinutes ?? COLD_AFTER_MINUTES) * MINUTE_MS;
    api.registerContextEngine(ID, () => engine(rewriter, coldAfterMs));
    api.registerCommand({
      name: "contextpilot",
      description: "What ContextPilot saved in this session's prompts.",
      handler: () => ({ text: rewriter.status() }),
    });
  },
};

/**
 * @param {Rewriter} rewriter
 * @param {number} coldAfterMs
 * @returns {Engine}
 */
function engine(rewriter, coldAfterMs) {
  return {
    info: {
      id: ID,
      name: "ContextPilot",
      ownsCompaction: false,
      acceptedHostParams: [],
      transcriptSemantics: {
        currentTurnFence: "before-current-turn-entry-v1",
        turnAdvancementIdempotency: "atomic-idempotent-v1",
      },
    },
    ingest: async () => ({ ingested: false }),
    commitTurn: async () => ({ status: "committed" }), // nothing is stored: once is as often as twice
    compact: (params) => delegateCompactionToRuntime(params),
    async assemble({ messages }) {
      return { messages: await rewritten(messages, rewriter, coldAfterMs), estimatedTokens: 0 };
    },
  };
}

/**
 * Returns a history, rewritten as far as no cache holds it as it was.
 *
 * @param {Messages} messages
 * @param {Rewriter} rewriter
 * @param {number} coldAfterMs
 */
async function rewritten(messages, rewriter, coldAfterMs) {
  const cold = coldLength(messages, coldAfterMs, Date.now());
  if (!cold) return messages;
  try {
    const told = messages.slice(0, cold);
    const chat = chatOf(told);
    const answer = await rewriter.rewrite(chat.messages);
    if (!answer || !chat.apply(answer)) return messages;
    return [...told, ...messages.slice(cold)];
  } catch (error) {
    rewriter.fail(error);
    return messages;
  }
}

/**
 * Returns how many messages stand before the last long pause: only a later pause moves it.
 *
 * @param {Messages} messages
 * @param {number} coldAfterMs
 * @param {number} now
 */
function coldLength(messages, coldAfterMs, now) {
  let next = now;
  for (let at = messages.length; at > 0; at -= 1) {
    const written = Number(messages[at - 1].timestamp);
    if (!Number.isFinite(written)) continue;
    if (next - written > coldAfterMs) return at;
    next = written;
  }
  return 0;
}

/**
 * Returns a chat whose places write into `messages`, a list of our own.
 *
 * @param {Messages} messages
 */
function chatOf(messages) {
  const chat = new Chat();
  messages.forEach((message, at) => {
    if (message.role === "user") {
      const texts = textsOf(message);
      chat.user(texts, (part) => (text) => (messages[at] = withText(messages[at], part, text)));
    }
    if (message.role === "assistant") {
      for (const part of message.content) {
        if (part.type === "text") chat.assistant(part.text);
        if (part.type === "toolCall") chat.call(part.id, part.name, part.arguments);
      }
    }
    if (message.role === "toolResult") {
      const texts = textsOf(message);
      const isWhole = texts.length === 1;
      const write = (/** @type {string} */ text) => (messages[at] = withText(messages[at], 0, text));
      chat.result(message.toolCallId, texts.join("\n"), isWhole ? write : undefined);
    }
  });
  return chat;
}

/**
 * @param {any} message
 * @returns {string[]}
 */
function textsOf({ content }) {
  if (typeof content === "string") return [content];
  return content.filter((/** @type {any} */ part) => part.type === "text").map((/** @type {any} */ part) => part.text);
}

/**
 * Returns a copy of a message in which the text of this number is another.
 *
 * @param {any} message
 * @param {number} number
 * @param {string} text
 * @returns {Message}
 */
function withText(message, number, text) {
  if (typeof message.content === "string") return { ...message, content: text };
  let seen = -1;
  const content = message.content.map((/** @type {any} */ part) => {
    if (part.type === "text") seen += 1;
    return part.type === "text" && seen === number ? { ...part, text } : part;
  });
  return { ...message, content };
}
