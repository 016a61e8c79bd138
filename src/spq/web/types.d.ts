/** Types that several modules of the page share. The checks read them (tsc); browsers never load this file. */

/** A picture of the collection. */
interface Item {
  id: number;
  path: string;
  label: string | null;
  width: number;
  height: number;
  size: number;
  time: string; // ISO 8601
  metadata: Record<string, string | number | null>;
  code?: number[]; // M codewords; of api.item()
  distance?: number; // of a hit
  folded?: number[]; // ids of hits with the same code, at most 100
  folded_total?: number;
  note?: string; // shown instead of the label
  location?: string | null; // absolute path, if the server tells it
  can_show?: boolean; // whether the server can open its folder on this screen
}

/** A picture that matches a search. */
interface Hit extends Item {
  rank: number;
  distance: number;
  code_distance: number | null; // from the code of the query; null for several query pictures
  same_file: boolean; // whether it has the bytes of a query picture
}

/** What distances are measured from: a picture, the code of one that cannot be read, or several pictures. */
type Compared = "picture" | "code" | "several";

/** The largest distances of two bands, and the shares of altered copies and of random pairs that are very close. */
interface Reach {
  very_close: number;
  close: number;
  copies: number;
  random: number;
}

/** The limits of the bands. same: of code_distance. */
interface Bands {
  pictures: number;
  copies: number;
  same: number | null;
  same_copies: number;
  same_others: number;
  picture: Reach;
  code: Reach;
}

/** One name of a picture in the state: the id of an item, or the name of an upload (`u-…`). */
type Name = number | string;

interface State {
  view: string;
  like: Name[];
  not: Name[];
  plus: number[];
  minus: number[];
  box: number[] | null; // x, y, width, height in pixels of the picture
  where: string;
  max: number | null;
  fold: boolean;
  order: string;
  since: number | null;
  item: number | null;
  show: number | null; // the picture in the lightbox
  against: Name | null; // the picture beside it
  differ: boolean; // whether their difference is shown
  at: number;
  map: number[] | null; // x, y, zoom
  colour: string;
  find: number | null;
  layout: string; // that these places belong to
  lasso: number[] | null; // x, y, x, y, ...
  book: number;
  word: number | null;
  kind: string;
  [name: string]: any;
}

interface Query {
  ids?: number[];
  not_ids?: number[];
  box?: number[] | null;
  where?: string | null;
  top?: number;
  offset?: number;
  max_distance?: number | null;
  fold?: boolean;
  [name: string]: any;
}

/** What one codebook adds to a distance. */
interface Part {
  m: number;
  codeword: number;
  nearest: number;
  distance: number;
  share: number;
}

/** What api.search() takes. */
interface Question {
  files?: Blob[]; // pictures to search for
  negativeFiles?: Blob[]; // pictures to avoid
  query: Query;
  missing?: number;
}

/** A column that a filter can use. */
interface ColumnInfo {
  name: string; // as an expression has it
  kind: string; // text, number or time
  values?: string[]; // to choose from
}

/** api.status() */
interface Status {
  name: string;
  images: number;
  generation: number;
  columns?: ColumnInfo[];
  sync?: { running: boolean; done: number; total: number | null; failed?: number } | null;
  sync_error?: string | null;
  [name: string]: any;
}

/** A list that a grid shows: pages.js has two kinds. */
interface List {
  total: number | null;
  isExact: boolean;
  get(position: number): any;
  want(first: number, last: number): void;
  collect(first: number, last: number): Promise<any[]>;
  find(id: number): number;
  close(): void;
}

/** One page of a list. ends: a short page is the last one. */
interface Page {
  items: any[];
  total: number;
  ends?: boolean | undefined;
}

/** An empty or an error state of a view. */
interface Message {
  title: string;
  text?: string;
  action?: [string, () => void];
  isError?: boolean;
}

declare module "*/settings.js" {
  export const settings: any; // written by the export of a site
}
