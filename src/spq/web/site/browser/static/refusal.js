/** What cannot be done as it is asked; the message says why. All other errors are failures. */
export class Refusal extends Error {
  isRefusal = true;
}
