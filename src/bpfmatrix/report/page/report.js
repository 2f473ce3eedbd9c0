// The report's data, as page_data.py and html.py pack it: JSON, compressed with gzip, in base64.
//
// `columns` are kernels and `rows` are tests and programs. Everywhere in these modules, `column` and
// `row` are indexes into them. One cell is one test or program on one kernel.

import { byId } from "./dom.js";

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

async function unpackData() {
  try {
    return await unpack(byId("data").textContent);
  } catch (error) {
    byId("failed").hidden = false;
    byId("failed").textContent =
      "This report could not be unpacked: it needs a browser with DecompressionStream " +
      `(since 2023). ${error}`;
    // Nothing else of the page can work.
    throw error;
  }
}

const data = await unpackData();

export const columns = data.columns;

/** The object files of programs, and the packages of tests. */
const groups = data.groups.map(([kind, name]) => ({ isProgram: kind === 1, name }));

export const rows = data.rows.map(([group, name], row) => ({
  group: groups[group],
  name,
  facts: data.facts[row],
}));

/** Each statistic by its name, as `[column][row]`; null where the kernel did not report it. */
export const statistics = Object.fromEntries(
  Object.entries(data.statistics).map(([name, steps]) => [name, sumSteps(steps)]),
);

/** How many instructions the verifier processed; undefined if no cell has this number. */
export const instructions = statistics.instructions_processed;

// The value in one column is packed as its difference from the last known value in its row.
function sumSteps(steps) {
  const last = new Array(rows.length).fill(0);
  return steps.map((column) =>
    column.map((step, row) => {
      if (step === null) return null;
      last[row] += step;
      return last[row];
    }),
  );
}

/** One of a cell's short texts (`reason`, `code`, ...); empty if it has none. */
export function detailAt(column, row, key) {
  const number = columns[column][key][row];
  return number === undefined ? "" : data.strings[number];
}

const packedBlocks = document.getElementsByClassName("block");
const unpackedBlocks = new Map();

/** A long text (an output or a log) by its number. Its block is unpacked on first use. */
export async function longText(number) {
  const block = data.blocks.findLastIndex((first) => first <= number);
  if (!unpackedBlocks.has(block)) {
    unpackedBlocks.set(block, unpack(packedBlocks[block].textContent));
  }
  return (await unpackedBlocks.get(block))[number - data.blocks[block]];
}
