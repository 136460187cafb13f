// What a demo job trains: a task, and settings as the API takes them. Knows no server.

import { readFileSync } from "node:fs";
import { z } from "zod";

const recipeSchema = z.strictObject({
  name: z.string(), // the job's suffix, and of the files that are saved
  task: z.string(),
  /** The first ones of the task's file; all where it is left out. */
  examples: z.int().positive().optional(),
  /** An earlier recipe's name, whose result this one continues. */
  from: z.string().optional(),
  hyperparameters: z.record(z.string(), z.unknown()).default({}),
  adapter: z.looseObject({ type: z.string().default("lora") }).prefault({}),
});

export type Recipe = z.output<typeof recipeSchema>;

/** @throws Error where the file holds anything but a list of recipes, or one that continues none before it */
export function readRecipes(path: string): readonly Recipe[] {
  const recipes = z.array(recipeSchema).parse(JSON.parse(readFileSync(path, "utf8")));
  for (const [index, { name, from }] of recipes.entries()) {
    const earlier = recipes.slice(0, index).map((recipe) => recipe.name);
    if (earlier.includes(name)) throw new Error(`${path}: two recipes are called ${name}`);
    if (from !== undefined && !earlier.includes(from)) {
      throw new Error(`${path}: ${name} continues ${from}, and no recipe before it is called so`);
    }
  }
  return recipes;
}

/** Whatever the server chooses by itself. */
export function plainRecipe(task: string): Recipe {
  return recipeSchema.parse({ name: task, task });
}
