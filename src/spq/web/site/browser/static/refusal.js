/** An invalid request. The message says why. All other errors are failures. */
export class Refusal extends Error {
  isRefusal = true;
}
