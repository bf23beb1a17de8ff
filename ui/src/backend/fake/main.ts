// The pages over an engine in memory, for development and tests in a browser. `?scenario=` says in
// which state it begins; with `&hold` whatever takes time stays half done until the document hears
// `fake-release`, so that a test sees it on the busiest machine. No build of the product contains this folder.

import { startApp } from "../../start";
import { fakeBackend, type Scenario } from "./backend";

const query = new URLSearchParams(location.search);
startApp(fakeBackend((query.get("scenario") ?? "full") as Scenario, query.has("hold")));
