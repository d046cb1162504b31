-- The incremental build on BigQuery: one MERGE by id after which a table holds what a full build would give.

{% macro bigquery__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates=none) -%}
    {#- dbt's merge updates and inserts; rows that are no longer in the query (a project that is gone, or whose tag was
        added or taken back) would stay. In the same statement, so that no reader sees a half-done table. -#}
    {{ default__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates) }}
    when not matched by source
        {%- for predicate in incremental_predicates or [] %} and {{ predicate }}{% endfor %}
        then delete
{%- endmacro %}

{% macro pruned(column) -%}
    {#- Leaves out the days before `since`, on the side that is read; the predicate on the side that is written is in
        dbt_project.yml. -#}
    {%- if is_incremental() and var('since', none) %}
    and {{ column }} >= timestamp '{{ var("since") }}'
    {%- endif %}
{%- endmacro %}
