// The files of the site, checked against the checksums of the export: damage is an error, never a wrong answer.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** Return the CRC-32 of bytes, as zlib.crc32 in Python. (crypto.subtle needs https.) */
export function crc32(bytes) {
  let sum = ~0;
  for (let at = 0; at < bytes.length; at++) sum = TABLE[(sum ^ bytes[at]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** Return the bytes of a file, an ArrayBuffer. checksum: its CRC-32. */
export async function load(url, checksum) {
  const name = url.split("/").pop();
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${name} is missing on this site (${answer.status}); export it again`);
  const data = await answer.arrayBuffer();
  if (crc32(new Uint8Array(data)) !== checksum) {
    throw new Error(`${name} of this site is damaged; reload the page, or export the site again`);
  }
  return data;
}

/** Return the content of a JSON file. */
export async function loadJson(url, checksum) {
  return JSON.parse(new TextDecoder().decode(await load(url, checksum)));
}
