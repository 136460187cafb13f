// What can be wrong with files of training examples.

import { RequestError } from "../errors.ts";

const shownProblems = 10;
const problemLength = 240; // characters; a problem may quote a name that the client chose

export class InvalidTrainingFileError extends RequestError {
  constructor(problem: string) {
    super("invalid_training_file", problem, "file");
  }
}

export class FileNotFoundError extends RequestError {
  constructor(id: string) {
    super("file_not_found", `there is no file ${id}; GET /v1/files lists yours`);
  }
}

export class FileInUseError extends RequestError {
  constructor(id: string, jobId: string) {
    super("file_in_use", `the finetuning job ${jobId} uses ${id}; wait for its end or cancel it first`);
  }
}

/** What is wrong with the lines of a file: the first are told. */
export class LineProblems {
  readonly #first: string[] = [];
  #count = 0;

  add(line: number, problem: string): void {
    this.#count++;
    if (this.#first.length === shownProblems) return;
    const short = problem.length > problemLength ? `${problem.slice(0, problemLength)}…` : problem;
    this.#first.push(`line ${line}: ${short.toWellFormed()}`);
  }

  /** Throws InvalidTrainingFileError where there is one. */
  refuseAny(): void {
    if (this.#count === 0) return;
    if (this.#count === 1) throw new InvalidTrainingFileError(this.#first[0]!);
    throw this.#refusal(this.#count > shownProblems ? `, the first ${shownProblems} of them` : "");
  }

  /** Throws InvalidTrainingFileError where as many as can be told are known: what follows needs no reading. */
  refuseMany(): void {
    if (this.#count === shownProblems) throw this.#refusal(", and those behind them were not read");
  }

  #refusal(remark: string): InvalidTrainingFileError {
    return new InvalidTrainingFileError(
      `${this.#count} lines cannot be used${remark}: ${this.#first.join("; ")}`,
    );
  }
}
