/* src/study/probe_groups.h - the probes of the density dealt to groups of ranks: a layout of probes x samples.
 * Ranks are dealt in order, so that a group is within a node where it can be.  Each group has an operator over all
 * studied samples, shared among its own ranks, and takes blocks of probes; the nodes of a probe do not depend on who
 * made them.  After each round of blocks all ranks meet: they share what is finished, agree whether somebody failed or was
 * asked to stop, and keep the state, which is that of hsgd_quadrature: any number of groups and ranks goes on from it.
 * Within a round nothing is kept by the clock, as the groups do not wait for each other; a stop keeps what was begun. */
#pragma once
#include "solve/quadrature.h"
#include "study/internal.h"

typedef struct study_probe_groups study_probe_groups;

/* Set s->groups: what density.groups asks for (fewer, with a warning, where there are fewer ranks or probes), or chosen;
 * 1 where the density does not run.  The choice changes no bit, and may depend on ranks and memory.  Collective.
 * Errors: those of study_memory_fits. */
hsgd_status study_choose_groups(study_state *s, hsgd_error *err);

/* The group of this rank, and the ranks [*low, *high) that are in it, for so many groups.  Local. */
int study_group_of(const hsgd_comm *comm, int groups, int *low, int *high);

/* Make the s->groups groups.  s: borrowed, must outlive *out.  Collective.  Errors: HSGD_ERR_MEMORY, HSGD_ERR_DEVICE. */
hsgd_status study_probe_groups_open(study_state *s, study_probe_groups **out, hsgd_error *err);

/* The study as this rank's group sees it, for whatever is to be made on the operator's space: comm and spread are the
 * group's; where there is one group it is the study itself.  Borrowed.  Local. */
study_state *study_probe_groups_state(study_probe_groups *g);

/* Take up what options->keeper holds: the nodes of finished probes, and those of probes that were begun, which all ranks
 * finish together first.  Before there is an operator of the groups, as it makes one of its own for that.  Nothing where
 * there is one group.  Other arguments: those of study_probe_groups_run.  Collective.  Errors: as there. */
hsgd_status study_probe_groups_resume(study_probe_groups *g, const hsgd_quadrature_options *options, double *ritz,
                                      double *weights, hsgd_error *err);

/* As study_operator, over the samples among this rank's group.  To be destroyed before the groups.  Collective. */
hsgd_status study_probe_groups_operator(study_probe_groups *g, hsgd_linop **out, hsgd_error *err);

/* As hsgd_quadrature, of all probes, with the same bits on all ranks.  options->keeper and deflate: the study's, of all ranks.
 * op: made above, and run once, after resume.  Collective.  Errors, the same on every rank: those of hsgd_quadrature in any group. */
hsgd_status study_probe_groups_run(study_probe_groups *g, hsgd_linop *op, const hsgd_quadrature_options *options,
                                   double *ritz, double *weights, hsgd_error *err);

/* End *g and set it to NULL; *g may be NULL already.  Collective.  Cannot fail. */
void study_probe_groups_close(study_probe_groups **g);
