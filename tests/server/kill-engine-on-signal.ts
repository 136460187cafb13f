// Loaded before a server's own code (node --import) by a test: SIGUSR2 then kills the engine's thread.

import { watchEngineThreads } from "./engine-threads.ts";

const threads = watchEngineThreads();
process.on("SIGUSR2", () => threads.kill());
