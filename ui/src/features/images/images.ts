// Images as the list shows them: one row a tag, pure derivations from Docker's records.

import type { ImageSummary } from "../../backend/bindings/ImageSummary";
import { splitReference } from "../../format/ids";

export interface ImageRow {
  /** Unique in the list: an image with two tags has two rows. */
  key: string;
  id: string;
  /** What to call it in a command: its reference, or its id when it has none. */
  reference: string;
  /** Empty for an image without a name. */
  repository: string;
  tag: string;
  size: number;
  created: Date;
  used: boolean;
}

export function toRows(images: readonly ImageSummary[], usedIds: ReadonlySet<string>): ImageRow[] {
  return images.flatMap((image) => {
    const tags = image.RepoTags.filter((tag) => tag !== "<none>:<none>");
    const common = {
      id: image.Id,
      size: image.Size,
      created: new Date(image.Created * 1000),
      used: image.Containers > 0 || usedIds.has(image.Id),
    };
    if (tags.length === 0) {
      const repository = image.RepoDigests[0]?.split("@")[0] ?? "";
      return [{ ...common, key: image.Id, reference: image.Id, repository, tag: "" }];
    }
    return tags.map((reference) => ({
      ...common,
      key: `${image.Id} ${reference}`,
      reference,
      ...splitReference(reference),
    }));
  });
}

export type Filter = "all" | "used" | "unused";
export type SortBy = "name" | "size" | "created";

const collator = new Intl.Collator(undefined, { numeric: true });

export function arrange(
  rows: readonly ImageRow[],
  query: string,
  filter: Filter,
  sort: { by: SortBy; descending: boolean },
): ImageRow[] {
  const wanted = query.trim().toLowerCase();
  const shown = rows.filter(
    (row) =>
      (filter === "all" || (filter === "used") === row.used) &&
      (wanted === "" ||
        row.reference.toLowerCase().includes(wanted) ||
        row.id.replace("sha256:", "").startsWith(wanted)),
  );
  const sign = sort.descending ? -1 : 1;
  const byName = (a: ImageRow, b: ImageRow) => collator.compare(a.reference, b.reference);
  return shown.sort((a, b) => {
    if (sort.by === "size") return sign * (a.size - b.size) || byName(a, b);
    if (sort.by === "created") return sign * (a.created.getTime() - b.created.getTime()) || byName(a, b);
    return sign * byName(a, b);
  });
}
