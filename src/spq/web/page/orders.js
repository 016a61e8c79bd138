/** The orders of all pictures: the menu, and what a request says. A random order has its seed in the address. */

import { api } from "./api.js";
import { words } from "./words.js";

const AGAIN = 700; // ms between two questions whether an order is ready

/** The choices of the menu. */
export const orderOptions = () => api.can.orders.map((name) => new Option(words.explore.orders[name], name));

/** The value of `order` in the state for a choice of the menu. Each choice of "random" is another order. */
export function orderOf(choice) {
  if (choice === api.can.orders[0]) return "";
  return choice === "random" ? `random-${Math.floor(Math.random() * 1e6)}` : choice;
}

/** The choice of the menu for a value in the state. A link may name an order that is not offered here. */
export const choiceOf = (order) => nameOf(order) || api.can.orders[0];

const nameOf = (/** @type {string} */ order) => api.can.orders.find((name) => name === order.split("-")[0]) ?? "";

/**
 * A page of all pictures. While the server computes their order, wait.
 * @param {{order: string, [name: string]: any}} params as of api.browse, with `order` of the state
 * @param {AbortSignal} signal
 * @param {(progress: any) => void} progress called with {stage, done, total} while this waits
 */
export async function browseInOrder({ order, ...params }, signal, progress) {
  const name = nameOf(order);
  const seed = /\d+$/.exec(order)?.[0];
  for (;;) {
    const page = await api.browse({ ...params, order: name, seed }, signal);
    if (page.state !== "computing") return page;
    progress(page);
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    signal.throwIfAborted();
  }
}
