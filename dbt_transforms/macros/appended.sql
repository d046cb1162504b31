-- The incremental build on DuckDB, where the raw tables have only had rows appended: what the platform knows of them comes
-- in the environment, since a variable that changes makes dbt parse anew. Without it, all is built and tested whole.

{% macro growth() %}
    {#- `models`: how many rows of each raw table a model has seen; `tests`: how many of each were tested, or none. -#}
    {{ return(fromjson(env_var('MLOPS_GROWTH', '{}')) if execute and target.type == 'duckdb' else {}) }}
{% endmacro %}

{% macro seen_rows(name) %}
    {{ return(growth().get('models', {}).get(name)) }}
{% endmacro %}

{% macro new_pairs(name, others, seen) -%}
    {#- Pairs with a new row of one table and old rows of those that are named before it: each new pair once. -#}
    and {{ name }}.rowid >= {{ seen[name] }}
    {%- for other in others %} and {{ other }}.rowid < {{ seen[other] }}{% endfor %}
{%- endmacro %}

{% macro drop_labeled() %}
    {#- Before rows are appended: those that a new tag has labeled are no longer unlabeled. -#}
    {%- set seen = seen_rows(model.name) if execute -%}
    {%- if seen and not should_full_refresh() -%}
        delete from {{ this }}
        where id in (select id from {{ source('raw', 'tags') }} where rowid >= {{ seen.tags }} and tag is not null)
    {%- endif -%}
{% endmacro %}

{% macro changed_ids(tested) -%}
    {%- for name, rows in tested.items() %}
        select id from {{ source('raw', name) }} where rowid >= {{ rows }}
        {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro rows_to_test(relation) -%}
    {#- The rows that a test has not passed yet: those of ids that are new in a raw table, and those without an id. -#}
    {%- set tested = growth().get('tests') -%}
    {%- if tested -%}
        (
            select * from {{ relation }} where id in ({{ changed_ids(tested) }})
            union all
            select * from {{ relation }} where id is null
        )
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}

{% macro default__get_where_subquery(relation) -%}
    {#- Overrides dbt's own, which gives a generic test its rows: with the test's `where`, as there. -#}
    {%- set rows, where = rows_to_test(relation), config.get('where', '') -%}
    {%- if where -%}
        {{ return('(select * from ' ~ rows ~ ' as tested where ' ~ where ~ ') dbt_subquery') }}
    {%- endif -%}
    {{ return(relation if rows | trim == relation | string else rows ~ ' as tested') }}
{%- endmacro %}
