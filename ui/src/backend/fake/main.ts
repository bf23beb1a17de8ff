// The pages over an engine in memory, for development and tests in a browser. `?scenario=` says in
// which state it begins. No build of the product contains this folder.

import { startApp } from "../../start";
import { fakeBackend, type Scenario } from "./backend";

const scenario = (new URLSearchParams(location.search).get("scenario") ?? "full") as Scenario;
startApp(fakeBackend(scenario));
