/**
 * Sends each picture once. The server keeps it for a while and names it in its answer; later requests send the name. If
 * the server does not know a name any more, for example after a restart, the picture is sent again.
 */

import { keyOf, setKey } from "./uploads.js";

const GRACE = 1000; // ms that an aborted request goes on: mostly the next one needs the same pictures
const UNKNOWN = "urn:spq:unknown-picture";

/** Blob -> the request that carries it now: {answer, controller, users} */
const carriers = new Map();

/**
 * @param {Blob[]} files pictures to search for
 * @param {Blob[]} negativeFiles pictures to avoid
 * @param {(parts: {files: Blob[], negativeFiles: Blob[], names: object}, signal?: AbortSignal?) => Promise<any>} send
 *   sends one request; names are the server's names of the other pictures
 * @param {AbortSignal?} [signal]
 */
export async function sendOnce(files, negativeFiles, send, signal) {
  const all = [...files, ...negativeFiles];
  for (let isAgain = false; ; isAgain = true) {
    for (let busy = carriersOf(all); busy.length; busy = carriersOf(all)) {
      await Promise.all(busy.map((carrier) => other(carrier, signal)));
    }
    const parts = {
      files: files.filter((file) => !keyOf(file)),
      negativeFiles: negativeFiles.filter((file) => !keyOf(file)),
      names: { pictures: files.map(keyOf).filter(Boolean), not_pictures: negativeFiles.map(keyOf).filter(Boolean) },
    };
    try {
      const carries = parts.files.length + parts.negativeFiles.length > 0;
      return await (carries ? carry(parts, send, signal) : send(parts, signal));
    } catch (error) {
      if (isAgain || error.type !== UNKNOWN) throw error;
      for (const file of all) setKey(file, null);
    }
  }
}

const carriersOf = (files) => [...new Set(files.map((file) => carriers.get(file)).filter(Boolean))];

/** Wait until another request has ended that carries the same pictures. If it was refused, so would this one be. */
async function other(carrier, signal) {
  await use(carrier, signal).catch((error) => {
    if (signal?.aborted || (error.kind === "refused" && !carrier.isLeft && error.type !== UNKNOWN)) throw error;
  });
}

function carry(parts, send, signal) {
  const pictures = [...parts.files, ...parts.negativeFiles];
  const controller = new AbortController();
  const carrier = { controller, users: 0, isLeft: false };
  carrier.answer = send(parts, controller.signal)
    .then((answer) => {
      parts.files.forEach((file, n) => setKey(file, answer.pictures?.[n] ?? null));
      parts.negativeFiles.forEach((file, n) => setKey(file, answer.not_pictures?.[n] ?? null));
      return answer;
    })
    .finally(() => {
      for (const file of pictures) if (carriers.get(file) === carrier) carriers.delete(file);
    });
  for (const file of pictures) carriers.set(file, carrier);
  return use(carrier, signal, () => (carrier.isLeft = true));
}

/** Wait for a carrier. When nobody waits for it any more, it ends after a moment. */
async function use(carrier, signal, leave = () => {}) {
  carrier.users++;
  let stop;
  const stopped = new Promise((_, reject) => {
    stop = () => {
      leave();
      reject(signal.reason);
    };
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([carrier.answer, stopped]);
  } finally {
    signal?.removeEventListener("abort", stop);
    carrier.users--;
    setTimeout(() => carrier.users || carrier.controller.abort(), GRACE);
  }
}

/**
 * As fetch, for a POST of a form whose progress is reported.
 * @param {string} address
 * @param {{body?: BodyInit?, signal?: AbortSignal?}} options
 * @param {(share: number) => void} progress called with the share that was sent, 0 to 1
 * @returns {Promise<Response>}
 */
export function fetchWithProgress(address, { body, signal }, progress) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal?.addEventListener("abort", stop, { once: true });
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.onload = () => {
      const headers = new Headers();
      const wait = request.getResponseHeader("Retry-After");
      if (wait) headers.set("Retry-After", wait);
      const { status, statusText } = request;
      resolve(new Response(request.responseText, { status, statusText, headers }));
    };
    request.onerror = () => reject(new TypeError("no answer"));
    request.onabort = () => reject(signal?.reason);
    request.open("POST", address);
    request.send(/** @type {FormData} */ (body));
    return undefined;
  });
}
